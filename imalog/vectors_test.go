package imalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A captured is one capture of a real kernel: a list and the PCRs that went with
// it.
type captured struct {
	dir string
}

// notReplaying are the captures whose PCR 10 the list does not yield, each for a
// reason that belongs to it.
var notReplaying = map[string]string{
	"late-records/6.12-cloud/arrived":              "files were measured after the list was read",
	"handover/7.2-imakexec-7.2-cloud/arrived":      "the sender measured its own kexec_execute after the list was read",
	"handover/7.2-imakexec-7.2-cloud/after":        "the sender measured its own kexec_execute after the list was read",
	"imakexec/6.1-snapshot-at-load/arrived":        "the snapshot was taken at load",
	"trim/7.2-cloud/trimmed":                       "the oldest records were deleted",
	"arm64/no-memreserve/arrived":                  "the list was lost",
	"arm64/stale-property/arrived-boot3":           "the list was lost",
	"arm64/uefi-acpi-NOT-restored/arrived":         "the list was lost",
	"arm64/uefi-acpi-NOT-restored/arrived-boot3":   "the list was lost",
	"template-ima-unrestorable/6.12-cloud/arrived": "template ima cannot be restored",
}

func captures(t testing.TB) []captured {
	var all []captured
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "binary_runtime_measurements" {
			all = append(all, captured{filepath.Dir(path)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Fatalf("only %d captures in testdata", len(all))
	}
	return all
}

func (c captured) name() string {
	return strings.TrimPrefix(filepath.ToSlash(c.dir), "testdata/")
}

// read returns a file of the capture, nil if it has none.
func (c captured) read(t testing.TB, name string) []byte {
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return b
}

// binary returns the list, staged records first.
func (c captured) binary(t testing.TB, alg string) ([]byte, *ReaderOptions) {
	id, ok := AlgByName(alg)
	if !ok {
		t.Fatal(alg)
	}
	name := liveName
	if alg != "sha1" {
		name += "_" + alg
	}
	return append(c.read(t, name+"_staged"), c.read(t, name)...), &ReaderOptions{DigestSize: AlgSize(id)}
}

// pcr returns the values of a PCR from pcrs.txt.
func (c captured) pcr(t testing.TB, index int) Values {
	v := Values{}
	for line := range strings.Lines(string(c.read(t, "pcrs.txt"))) {
		bank, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, i, _ := strings.Cut(bank, ":")
		if i != strconv.Itoa(index) {
			continue
		}
		alg, ok := AlgByName(name)
		b, err := hex.DecodeString(value)
		if !ok || err != nil {
			t.Fatalf("%s: %q", c.dir, line)
		}
		v[alg] = b
	}
	return v
}

func records(t testing.TB, b []byte, opts *ReaderOptions) []Record {
	var all []Record
	for rec, err := range Records(b, opts) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

func TestCapturedText(t *testing.T) {
	files := 0
	for _, c := range captures(t) {
		for _, suffix := range []string{"", "_sha256", "_sha256_staged"} {
			want := c.read(t, "ascii_runtime_measurements"+suffix)
			if want == nil {
				continue
			}
			files++
			opts := &ReaderOptions{}
			if suffix != "" {
				opts.DigestSize = 32
			}
			var got []byte
			for _, rec := range records(t, c.read(t, liveName+suffix), opts) {
				var err error
				if got, err = rec.AppendText(got); err != nil {
					t.Errorf("%s%s: %v", c.dir, suffix, err)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s%s: not as the kernel printed it", c.dir, suffix)
			}
		}
	}
	t.Logf("%d files", files)
}

func TestCapturedBinary(t *testing.T) {
	for _, c := range captures(t) {
		for _, alg := range []string{"sha1", "sha256"} {
			want, opts := c.binary(t, alg)
			var got []byte
			for _, rec := range records(t, want, opts) {
				n := len(got)
				var err error
				if got, err = rec.AppendBinary(got); err != nil {
					t.Fatal(err)
				}
				if len(got)-n != rec.BinarySize() {
					t.Errorf("%s: BinarySize %d, appended %d", c.dir, rec.BinarySize(), len(got)-n)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s %s: changed on the way", c.dir, alg)
			}
		}
	}
}

func TestCapturedTemplateDigests(t *testing.T) {
	for _, c := range captures(t) {
		for _, alg := range []string{"sha1", "sha256"} {
			b, opts := c.binary(t, alg)
			id, _ := AlgByName(alg)
			for i, rec := range records(t, b, opts) {
				got, err := rec.AppendDigest(nil, id)
				if err != nil {
					t.Fatal(err)
				}
				if !rec.Violation() && !bytes.Equal(got, rec.Digest) {
					t.Errorf("%s %s: record %d (%s): digest %x, listed %x", c.dir, alg, i, rec.Template, got, rec.Digest)
				}
			}
		}
	}
}

func TestCapturedReplay(t *testing.T) {
	banks := 0
	for _, c := range captures(t) {
		want := c.pcr(t, 10)
		if len(want) == 0 {
			t.Fatalf("%s: no PCRs", c.dir)
		}
		for _, alg := range []string{"sha1", "sha256"} {
			b, opts := c.binary(t, alg)
			if alg != "sha1" && len(b) == 0 || len(c.read(t, liveName+"_sha256_staged")) > 0 && alg == "sha1" {
				continue
			}
			res, err := Verify(context.Background(), Records(b, opts), want, nil)
			if err != nil {
				t.Fatal(err)
			}
			reason, broken := notReplaying[c.name()]
			if strings.HasPrefix(c.name(), "malformed/") {
				// A digest is computed anew, and a count too high is none: the rest lost records.
				whole := strings.Contains(c.name(), "-baddigest/") || strings.Contains(c.name(), "-counthigh/")
				reason, broken = "damaged on purpose", !whole
			}
			if res.Matched() == broken {
				t.Errorf("%s %s: matched %v (%s)", c.dir, alg, res.Matched(), reason)
				for _, b := range res.Banks {
					t.Logf("%s match %v prefix %d of %d boots %v", AlgName(b.Alg), b.Match, b.Prefix, res.Records, res.Boots)
				}
			}
			if res.Matched() {
				banks += len(want)
				if !res.End.Match(want) {
					t.Errorf("%s: state at the end does not match", c.dir)
				}
			}
		}
	}
	t.Logf("%d banks", banks)
}

// A list of 25,069 records, of which the beginning is kept: behind it come files that
// held their own paths.
func TestCapturedBig(t *testing.T) {
	c := captured{"testdata/big/6.12-cloud"}
	list := c.read(t, "beginning")
	m := newMachine(t)
	for i := range 25000 {
		path := fmt.Sprintf("/d/big-%06d", i)
		sum := sha256.Sum256([]byte(path + "\n"))
		rec := m.record("ima-sig", "sha256:\x00"+string(sum[:]), path+"\x00", "")
		list, _ = rec.AppendBinary(list)
	}
	const captured = "e0788e9381db19d6d855d44a2f03819f6ab68a51a6149e7f7a8db38b26ca8552"
	if sum := fmt.Sprintf("%x", sha256.Sum256(list)); sum != captured {
		t.Fatalf("the list is %s, not the captured one, %s", sum, captured)
	}
	res, err := Verify(t.Context(), Records(list, nil), c.pcr(t, 10), nil)
	if err != nil || !res.Matched() || res.Records != 25069 || len(res.Banks) != 2 {
		t.Errorf("%+v, %v", res, err)
	}
	buffer := make([]byte, HeaderSize+len(list))
	if _, err := Dump(buffer, Records(list, nil)); err != nil {
		t.Fatal(err)
	}
	restored, _, err := Restore(buffer)
	if err != nil || len(restored) != 25069 {
		t.Errorf("%d records are restored, %v", len(restored), err)
	}
}

func TestCapturedMalformed(t *testing.T) {
	dirs, _ := filepath.Glob("testdata/malformed/*/sent")
	if len(dirs) != 18 {
		t.Fatalf("%d buffers", len(dirs))
	}
	for _, sent := range append(dirs, "testdata/template-ima-unrestorable/6.12-cloud/sent") {
		c := captured{filepath.Join(filepath.Dir(sent), "arrived")}
		t.Run(c.name(), func(t *testing.T) {
			src := captured{sent}.read(t, "ima_kexec_buffer.bin")
			list, h, err := Restore(src)
			var got []byte
			for _, rec := range list {
				got, _ = rec.AppendBinary(got)
			}
			b, _ := c.binary(t, "sha1")
			// What the new kernel measured itself begins with the last boot_aggregate.
			own := -1
			arrived := records(t, b, nil)
			for i, rec := range arrived {
				if rec.BootAggregate() {
					own = i
				}
			}
			var want []byte
			for _, rec := range arrived[:own] {
				want, _ = rec.AppendBinary(want)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d records, the kernel kept %d", len(list), own)
			}
			log := string(c.read(t, "dmesg-ima.txt"))
			var re *RestoreError
			failed := false
			if err != nil {
				re = err.(*RestoreError)
				failed = !re.Silent
				if re.Record != len(list) {
					t.Errorf("error names record %d of %d kept", re.Record, len(list))
				}
			}
			if failed != strings.Contains(log, "Failed to restore the measurement list: -22") {
				t.Errorf("verdict %v, the kernel said %q", err, log)
			}
			if (err != nil) != (log != "") {
				t.Errorf("verdict %v, the kernel said %q", err, log)
			}
			t.Logf("header %+v, %d kept: %v", h, len(list), err)
		})
	}
}
