package imalog

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A list in text form is read back to the very records that it was printed from.
func TestCapturedTextReader(t *testing.T) {
	files, records := 0, 0
	for _, c := range captures(t) {
		for _, suffix := range []string{"", "_sha256", "_sha256_staged"} {
			text, want := c.read(t, "ascii_runtime_measurements"+suffix), c.read(t, liveName+suffix)
			if text == nil {
				continue
			}
			files++
			r := NewTextReader(iotest.HalfReader(bytes.NewReader(text)), nil)
			var got []byte
			for {
				rec, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%s%s: %v", c.dir, suffix, err)
				}
				got, _ = rec.AppendBinary(got)
				records++
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s%s: not the binary list", c.dir, suffix)
			}
			if r.Offset() != int64(len(text)) {
				t.Errorf("%s%s: %d of %d bytes", c.dir, suffix, r.Offset(), len(text))
			}
		}
	}
	t.Logf("%d records in %d files", records, files)
}

func TestTextAndBack(t *testing.T) {
	m := newMachine(t)
	sum := strings.Repeat("\xab", 32)
	digest := "sha256:\x00" + sum
	violation := m.file("/v")
	clear(violation.Digest)
	violationName := m.record("ima-ng", digest, "/two\nlines\x00")
	clear(violationName.Digest)
	otherPCR := m.file("/pcr")
	otherPCR.PCR = 9
	old := Record{PCR: 10, Template: "ima", Data: []byte(strings.Repeat("\x01", 20) + "\x04\x00\x00\x00/old")}
	old.Digest, _ = old.AppendDigest(nil, AlgSHA1)
	evil := m.file("/evil")
	line, _ := evil.AppendText(nil)
	tests := map[string]Record{
		"ima-ng":                          m.file("/bin/sh"),
		"a PCR of one digit":              otherPCR,
		"template ima":                    old,
		"an empty field":                  m.record("ima-sig", digest, "/x\x00", ""),
		"all fields empty":                m.record("ima-modsig", "", "", "", "", ""),
		"an empty name":                   m.record("ima-ng", digest, "\x00"),
		"an empty name, no NUL":           m.record("ima-ng", digest, ""),
		"no names of xattrs":              m.record("xattrnames|n-ng", "", "/x\x00"),
		"names of no xattrs":              m.record("xattrnames|n-ng", "\x00", "/x\x00"),
		"a digest without algorithm":      m.record("ima-ng", ":\x00"+sum, "/x\x00"),
		"a digest alone":                  m.record("ima-ng", sum, "/x\x00"),
		"verity":                          m.record("ima-ngv2", "verity:"+digest, "/x\x00"),
		"d counted":                       m.record("d|n|d-ng", sum[:20], "/x\x00", digest),
		"line feeds":                      m.record("ima-ng", digest, "/a\nb\n\nc\n\x00"),
		"line feeds before a field":       m.record("ima-sig", digest, "/a\nb\x00", "\x03\x02"),
		"a name that looks like a record": m.record("ima-ng", digest, "/a\n"+string(line[:len(line)-1])+"\x00"),
		"spaces":                          m.record("ima-sig", digest, "/a b  c \x00", "\x03"),
		"bytes":                           m.record("ima-ng", digest, "/\xff\x01\x7f\xe2\x82\x00"),
		"a violation":                     violation,
		"a violation with a line feed":    violationName,
		"integers":                        m.record("iuid|igid|imode|n-ng", "\x01\x00\x00\x00", "\xff\xff\xff\xff", "\xa4\x81", "/x\x00"),
		"large integers":                  m.record("iuid|imode|n-ng", "\x01\x00\x00\x00\x01\x00\x00\x00", "\x00\x00\x01\x00", "/x\x00"),
		"an unknown template":             m.record("bogus", "abc", "def"),
		"everything": m.record("evm-sig", digest, "/x\x00", "\x05\x02", "security.ima|security.selinux\x00",
			"\x02\x00\x00\x00\x01\x00\x00\x00", "abc", "\x00\x00\x00\x00", "\x00\x00\x00\x00", "\xed\x81"),
	}
	for name, rec := range tests {
		t.Run(name, func(t *testing.T) {
			// Between two others, so that its ends matter.
			var text []byte
			var err error
			for _, rec := range []Record{m.file("/before"), rec, m.file("/after")} {
				if text, err = rec.AppendText(text); err != nil {
					t.Fatal(err)
				}
			}
			want, _ := rec.AppendBinary(nil)
			r := NewTextReader(bytes.NewReader(text), nil)
			for i := range 3 {
				got, err := r.Next()
				if err != nil {
					t.Fatalf("%v in %q", err, text)
				}
				if b, _ := got.AppendBinary(nil); i == 1 && !bytes.Equal(b, want) {
					t.Errorf("%q\nread as %x\nwant    %x", text, b, want)
				}
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("%v at the end", err)
			}
		})
	}
}

func TestTextOfKernel(t *testing.T) {
	m := newMachine(t)
	rec := m.record("ima-ng", "sha1:\x00\x01\x02", "/x\x00")
	rec.PCR = 5
	got, err := rec.AppendText(nil)
	if want := " 5 " + string(appendHex(nil, rec.Digest)) + " ima-ng sha1:0102 /x\n"; string(got) != want || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	rec.Data = rec.Data[:9]
	if got, err := rec.AppendText([]byte("kept")); !errors.Is(err, ErrFields) || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTextReaderErrors(t *testing.T) {
	rec := newMachine(t).file("/bin/sh")
	good, _ := rec.AppendText(nil)
	for name, bad := range map[string]string{
		"no number":      "x 00 ima-ng sha256:00 /x\n",
		"odd digest":     "10 000 ima-ng sha256:00 /x\n",
		"upper case":     "10 0A ima-ng sha256:00 /x\n",
		"no template":    "10 00\n",
		"too few fields": "10 00 ima-ng sha256:00\n",
		"not hex":        "10 00 ima-ng sha256:zz /x\n",
		"not a number":   "10 00 iuid x\n",
		"short digest":   "10 " + strings.Repeat("0", 40) + " ima 0000 /x\n",
		"empty line":     "\n",
		"zeros":          "\x00\x00\x00\x00",
	} {
		r := NewTextReader(strings.NewReader(string(good)+bad), nil)
		if _, err := r.Next(); err != nil {
			t.Errorf("%s: %v for what is good", name, err)
		}
		_, err := r.Next()
		var re *RecordError
		if !errors.As(err, &re) || !errors.Is(err, ErrFormat) || re.Record != 1 || re.Offset != int64(len(good)) {
			t.Errorf("%s: %v", name, err)
		}
		if _, again := r.Next(); again != err {
			t.Errorf("%s: %v, and then %v", name, err, again)
		}
	}
	long := strings.Repeat("x", 3000)
	if _, err := NewTextReader(strings.NewReader(long), &ReaderOptions{MaxRecord: 1000}).Next(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v for a line without end", err)
	}
}

// A text whose digests match nothing is read as it stands, at a bounded cost: the
// digests of SM3 are such, and so is what somebody makes up.
func TestTextUnmatched(t *testing.T) {
	m := newMachine(t)
	m.boot("")
	m.run(4000)
	var text, want []byte
	for i := range m.list {
		rec := &m.list[i]
		rec.Digest = bytes.Repeat([]byte{0xa5}, 32)
		text, _ = rec.AppendText(text)
		want, _ = rec.AppendBinary(want)
	}
	r := NewTextReader(bytes.NewReader(text), nil)
	var got []byte
	for {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _ = rec.AppendBinary(got)
		if r.credit < -maxNameLines {
			t.Fatalf("record %d: %d digests tried beyond what it may", r.Count(), -r.credit)
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("not the list that was printed")
	}
	if r.credit > creditMost/2 {
		t.Errorf("%d digests are left to be tried: nothing was", r.credit)
	}
}
