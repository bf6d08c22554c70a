package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// bigEndianList returns a list as a big-endian kernel would have written it.
func bigEndianList(t testing.TB, list []byte) []byte {
	t.Helper()
	var out []byte
	for rec, err := range imalog.Records(list, nil) {
		if err != nil {
			t.Fatal(err)
		}
		big := imalog.Record{PCR: rec.PCR, Template: rec.Template, Digest: rec.Digest, BigEndian: true}
		for f, err := range rec.Fields() {
			if err != nil {
				t.Fatal(err)
			}
			data := slices.Clone(f.Data)
			switch f.Kind() {
			case imalog.KindUint:
				slices.Reverse(data)
			case imalog.KindLengths:
				for b := data; len(b) > 0; b = b[4:] {
					slices.Reverse(b[:4])
				}
			}
			big.Data = binary.BigEndian.AppendUint32(big.Data, uint32(len(data)))
			big.Data = append(big.Data, data...)
		}
		if !rec.Violation() {
			if big.Digest, err = big.AppendDigest(nil, imalog.AlgSHA1); err != nil {
				t.Fatal(err)
			}
		}
		if out, err = big.AppendBinary(out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func open(t testing.TB, alg uint16, b []byte) (part, error) {
	t.Helper()
	o := &opener{alg: alg, stdin: bytes.NewReader(b)}
	return o.file("-")
}

func TestRecognizeCaptures(t *testing.T) {
	n := 0
	for _, name := range captured(t, func(name string) bool { return strings.Contains(name, "runtime_measurements") }) {
		if strings.HasSuffix(name, "_count") {
			continue
		}
		b := readFile(t, name)
		want := "binary"
		switch {
		case len(b) == 0:
			continue
		case strings.HasPrefix(filepath.Base(name), "ascii"):
			want = "ASCII"
		}
		n++
		p, err := open(t, 0, b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := p.describe(); got != want {
			t.Errorf("%s is taken for %s", name, got)
		}
		if want == "ASCII" || strings.Contains(name, "ima-tcb") || strings.Contains(name, "unrestorable") || strings.Contains(name, "sha256") {
			continue // bigEndianList knows lists with lengths and SHA-1
		}
		p, err = open(t, 0, bigEndianList(t, b))
		if err != nil || p.describe() != "binary, big-endian" {
			t.Errorf("%s, made big-endian, is taken for %s, %v", name, p.describe(), err)
		}
	}
	if n < 200 {
		t.Errorf("only %d lists", n)
	}
}

func TestRecognizeKexecBuffer(t *testing.T) {
	p, err := open(t, 0, readFile(t, vectors+"malformed/6.12-cloud-counthigh/sent/ima_kexec_buffer.bin"))
	if want := "kexec buffer of 21 records in 1647 bytes"; err != nil || p.describe() != want {
		t.Errorf("%s, %v", p.describe(), err)
	}
}

// A record that is longer than what imalog looks at first.
func TestRecognizeLongRecord(t *testing.T) {
	rec := imalog.Record{PCR: 10, Template: "n-ng|buf", Digest: make([]byte, 20)}
	rec.Data = append([]byte("\x05\x00\x00\x00long\x00\x00\x00\x03\x00"), make([]byte, 3<<16)...)
	b, err := rec.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := open(t, 0, b)
	if err != nil || p.describe() != "binary" {
		t.Errorf("%s, %v", p.describe(), err)
	}
}

func TestRecognizeNamedDigest(t *testing.T) {
	b := readFile(t, mainline+"binary_runtime_measurements_sha256")
	for _, alg := range []uint16{imalog.AlgSHA256, imalog.AlgSM3_256} {
		if _, err := open(t, alg, b); err != nil {
			t.Error(err)
		}
	}
	want := "standard input: has digests of 32 bytes; those of sha1 have 20"
	if _, err := open(t, imalog.AlgSHA1, b); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestRecognizeRefuses(t *testing.T) {
	for name, b := range map[string]string{
		"prose":             "10 green bottles hanging on the wall",
		"zeros":             strings.Repeat("\x00", 4096),
		"ones":              strings.Repeat("\xff", 4096),
		"a program":         "\x7fELF\x02\x01\x01" + strings.Repeat("\x00\x01", 2048),
		"one byte":          "\x0a",
		"half a record":     string(readFile(t, mainline+"binary_runtime_measurements")[:60]),
		"garbage in kexec":  string(readFile(t, vectors+"malformed/6.12-cloud-garbage/sent/ima_kexec_buffer.bin")),
		"digits and no hex": "10 " + strings.Repeat("x", 40) + " ima-ng ",
	} {
		_, err := open(t, 0, []byte(b))
		if !errors.Is(err, errForm) || !strings.HasPrefix(err.Error(), "standard input: record 0 at offset 0: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
