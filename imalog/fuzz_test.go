package imalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// corpus gives the captured files of a name to a fuzz test.
func corpus(f *testing.F, pattern string, add func([]byte)) {
	n := 0
	for _, depth := range []string{"*", "*/*", "*/*/*", "*/*/*/*"} {
		names, _ := filepath.Glob("testdata/" + depth + "/" + pattern)
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			add(b)
			n++
		}
	}
	if n == 0 {
		f.Fatal("no corpus")
	}
}

func FuzzReader(f *testing.F) {
	corpus(f, liveName, func(b []byte) { f.Add(b, uint8(0), false) })
	corpus(f, liveName+"_sha256", func(b []byte) { f.Add(b, uint8(1), false) })
	b, opts := captured{"testdata/lists/6.12-cloud/evm-sig-xattr"}.binary(f, "sha1")
	f.Add(encode(f, bigEndian(f, records(f, b, opts))), uint8(0), true)
	f.Fuzz(func(t *testing.T, b []byte, size uint8, big bool) {
		opts := &ReaderOptions{DigestSize: digestSizes[int(size)%len(digestSizes)]}
		if big {
			opts.ByteOrder = binary.BigEndian
		}
		var again []byte
		var list []Record
		var failed error
		for rec, err := range Records(b, opts) {
			if failed = err; err != nil {
				break
			}
			list = append(list, rec)
			if again, err = rec.AppendBinary(again); err != nil {
				t.Fatal(err)
			}
			checkRecord(t, &rec)
		}
		if !bytes.HasPrefix(b, again) || failed == nil && len(again) != len(b) {
			t.Fatalf("%d bytes came back as %d others", len(b), len(again))
		}
		// The stream reads the same, in whatever pieces it comes.
		r := NewReader(&pieces{b: b, n: 1 + len(b)/7}, opts)
		for i := range list {
			rec, err := r.Next()
			if err != nil || !reflect.DeepEqual(*rec, list[i]) {
				t.Fatalf("record %d of the stream: %+v, %v, want %+v", i, rec, err, list[i])
			}
		}
		_, err := r.Next()
		if failed == nil && err != io.EOF || failed != nil && (err == nil || err.Error() != failed.Error()) {
			t.Fatalf("the stream ends with %v, the slice with %v", err, failed)
		}
		if r.Count() != len(list) || r.Offset() != int64(len(again)) {
			t.Fatalf("at %d, %d, want %d, %d", r.Count(), r.Offset(), len(list), len(again))
		}
		var re *RecordError
		if failed != nil && (!errors.As(failed, &re) || re.Record != len(list) || re.Offset != int64(len(again))) {
			t.Fatalf("%v after %d records, %d bytes", failed, len(list), len(again))
		}
	})
}

// pieces gives its bytes n at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

// checkRecord does with a record all that can be done with it.
func checkRecord(t *testing.T, rec *Record) {
	_ = rec.String()
	clone := rec.Clone()
	if clone.Name() != rec.Name() || clone.BootAggregate() != rec.BootAggregate() || !bytes.Equal(clone.Buf(), rec.Buf()) {
		t.Fatalf("%+v and its clone differ", rec)
	}
	for f, err := range rec.Fields() {
		if err != nil {
			if !errors.Is(err, ErrFields) && !errors.Is(err, ErrTemplate) {
				t.Fatal(err)
			}
			break
		}
		checkField(t, f)
	}
	rec.Xattrs()
	for _, alg := range []uint16{AlgSHA1, AlgSHA512} {
		if _, err := rec.AppendDigest(nil, alg); err != nil && rec.Template != templateIMA {
			t.Fatal(err)
		}
	}
	checkText(t, rec)
	checkRestorable(t, rec)
}

// checkRestorable checks that the record alone in a kexec buffer is restored if it
// says so.
func checkRestorable(t *testing.T, rec *Record) {
	if rec.Template == templateIMA || len(rec.Digest) != 20 || rec.BigEndian {
		return // in a buffer it looks otherwise
	}
	b, err := rec.AppendBinary(make([]byte, HeaderSize))
	if err != nil {
		return
	}
	Header{Version: 1, Size: uint64(len(b)), Count: 1}.Put(b)
	_, _, err = Restore(b)
	if want := rec.Restorable(); (err == nil) != (want == nil) || !errors.Is(err, errors.Unwrap(want)) && !errors.Is(err, want) {
		t.Fatalf("Restorable: %v, and Restore: %v", want, err)
	}
}

// checkField checks that what a field decodes to encodes to the same bytes.
func checkField(t *testing.T, f Field) {
	again, err := reencode(f)
	if err != nil {
		if !errors.Is(err, ErrFields) {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(again, f.Data) && !(f.Kind() == KindNames && len(f.Data) == 0) {
		t.Fatalf("field %s: %x came back as %x", f.ID(), f.Data, again)
	}
}

// checkText checks that a record is read back from its text to the same bytes
// wherever the text says all of it.
func checkText(t *testing.T, rec *Record) {
	text, err := rec.AppendText(nil)
	if err != nil {
		return
	}
	r := NewTextReader(bytes.NewReader(text), readerOptions(rec))
	got, err := r.Next()
	if !textSaysAll(rec) {
		return
	}
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	want, _ := rec.AppendBinary(nil)
	if b, err := got.AppendBinary(nil); err != nil || !bytes.Equal(b, want) {
		t.Fatalf("%q\nread as %x\nwant    %x", text, b, want)
	}
}

func readerOptions(rec *Record) *ReaderOptions {
	if rec.BigEndian {
		return &ReaderOptions{ByteOrder: binary.BigEndian}
	}
	return nil
}

// textSaysAll reports whether nothing of a record is lost in its text. With a
// digest that matches that is more than can be said here; without one it is what
// TextReader's documentation does not name as lost.
func textSaysAll(rec *Record) bool {
	if _, known := fieldsOf(rec.Template, nil); !known || len(rec.Digest) == 0 || len(rec.Data) > 4096 {
		return false
	}
	for f := range rec.Fields() {
		if again, err := reencode(f); err != nil || !bytes.Equal(again, f.Data) {
			return false
		}
		switch f.Kind() {
		case KindText:
			s, _ := f.Text()
			counted := rec.Template != templateIMA
			if len(s) == 0 || bytes.ContainsAny(s, " \n") || counted != (len(s) < len(f.Data)) || !counted && bytes.IndexByte(f.Data, 0) >= 0 {
				return false
			}
		case KindNames:
			if len(f.Data) == 1 || bytes.ContainsAny(f.Data, " \n") {
				return false
			}
		case KindDigest:
			// Bytes that would end a tag early, or none at all.
			d, _ := f.FileDigest()
			if f.ID() != "d" && (len(f.Data) == 0 || strings.ContainsAny(d.Type()+d.Alg(), " \n") || d.Alg() == "") {
				return false
			}
		case KindUint:
			v, _ := f.Uint()
			b, _ := appendTextUint(nil, f.order(), f.ID(), appendTextOf(f))
			if !bytes.Equal(b, f.Data) || len(f.Data) == 0 && v != 0 {
				return false
			}
		}
	}
	return true
}

func appendTextOf(f Field) []byte { return f.appendText(nil) }

func FuzzTextReader(f *testing.F) {
	corpus(f, "ascii_runtime_measurements*", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, text []byte) {
		r := NewTextReader(&pieces{b: text, n: 1 + len(text)/5}, nil)
		for n := 0; ; n++ {
			rec, err := r.Next()
			if err == io.EOF {
				if r.Offset() != int64(len(text)) {
					t.Fatalf("ends at %d of %d bytes", r.Offset(), len(text))
				}
				return
			}
			var re *RecordError
			if err != nil {
				if !errors.As(err, &re) || re.Record != n || re.Offset != r.Offset() {
					t.Fatal(err)
				}
				return
			}
			if len(rec.Data) > 2*len(text)+64 {
				t.Fatalf("%d bytes of data from %d of text", len(rec.Data), len(text))
			}
			binary, err := rec.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			// What was read is a record that prints, and is then read the same again.
			clone := rec.Clone()
			line, err := clone.AppendText(nil)
			if err != nil {
				t.Fatalf("%x: %v", binary, err)
			}
			if !textSaysAll(&clone) {
				continue
			}
			again, err := NewTextReader(bytes.NewReader(line), nil).Next()
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if b, _ := again.AppendBinary(nil); !bytes.Equal(b, binary) {
				t.Fatalf("%q\nread as %x\nwant    %x", line, b, binary)
			}
		}
	})
}

func FuzzField(f *testing.F) {
	ids := map[string]bool{}
	for _, c := range captures(f) {
		b, opts := c.binary(f, "sha1")
		for _, rec := range records(f, b, opts) {
			for field := range rec.Fields() {
				if len(field.Data) > 0 || !ids[field.ID()] {
					f.Add(field.ID(), field.Data, false)
				}
				ids[field.ID()] = true
			}
		}
	}
	f.Add("iuid", []byte{0, 0, 0, 7}, true)
	f.Add("sig", []byte("\x06\x03\x06\x01\x02\x03\x04\x00\x02zz"), false)
	f.Fuzz(func(t *testing.T, id string, data []byte, big bool) {
		order := binary.ByteOrder(binary.LittleEndian)
		if big {
			order = binary.BigEndian
		}
		checkField(t, NewField(id, data, order))
		s, ok := ParseSignature(data)
		if ok && !bytes.Equal(s.Append(nil), data) {
			t.Fatalf("signature %x came back as %x", data, s.Append(nil))
		}
	})
}

func FuzzRestore(f *testing.F) {
	corpus(f, "ima_kexec_buffer.bin", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, src []byte) {
		list, h, err := Restore(src)
		var re *RestoreError
		if err != nil && (!errors.As(err, &re) || re.Record != len(list) || re.Offset > int64(len(src))) {
			t.Fatal(err)
		}
		if uint64(len(list)) > h.Count || len(list) > len(src)/32 {
			t.Fatalf("%d records from %d bytes with a count of %d", len(list), len(src), h.Count)
		}
		// What a kernel restored it can hand on, and the next one restores the same,
		// but for template "ima".
		size, old := HeaderSize, false
		for i := range list {
			checkRecord(t, &list[i])
			size += list[i].BinarySize()
			old = old || list[i].Template == templateIMA
		}
		if old {
			return
		}
		dst := make([]byte, size)
		if n, err := Dump(dst, all(list)); n != size || err != nil {
			t.Fatalf("%d of %d bytes: %v", n, size, err)
		}
		again, _, err := Restore(dst)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d of %d records: %v", len(again), len(list), err)
		}
		if !bytes.Equal(encode(t, again), encode(t, list)) {
			t.Fatal("another list")
		}
	})
}

func FuzzReplayer(f *testing.F) {
	corpus(f, liveName, func(b []byte) { f.Add(b, []byte(nil), uint8(2)) })
	f.Fuzz(func(t *testing.T, b, start []byte, workers uint8) {
		opts := &ReplayOptions{
			Banks:   []uint16{AlgSHA1, AlgSHA256, AlgSHA512},
			Start:   Values{AlgSHA1: start},
			Workers: 1 + int(workers%4),
		}
		one := NewReplayer(opts)
		var failed error
		n := 0
		for rec, err := range Records(b, nil) {
			if err == nil {
				err = one.Add(&rec)
			}
			if failed = err; err != nil {
				break
			}
			n++
		}
		two := NewReplayer(opts)
		err := two.AddAll(context.Background(), Records(b, nil))
		if (err == nil) != (failed == nil) || !one.Values().Equal(two.Values()) || one.Count() != n || two.Count() != n {
			t.Fatalf("Add: %d, %v; AddAll: %d, %v", one.Count(), failed, two.Count(), err)
		}
		res, err := Verify(context.Background(), Records(b, nil), one.Values(), opts)
		if (err == nil) != (failed == nil) || res.Records != n || !res.Matched() || !res.End.Values().Equal(one.Values()) {
			t.Fatalf("Verify: %+v, %v", res, err)
		}
		for _, finding := range res.Findings {
			if finding.Kind != FindingDigest || finding.Record >= n {
				t.Fatal(finding)
			}
		}
		if n == 0 || n > 100 {
			return
		}
		// No search may end in values that nothing was extended to.
		want := one.Values()
		for _, v := range want {
			v[0] ^= 1
		}
		res, err = Verify(context.Background(), Records(b, nil), want, opts)
		if (err == nil) != (failed == nil) || res.Matched() {
			t.Fatalf("Verify of other values: %+v, %v", res, err)
		}
		for _, b := range res.Banks {
			if b.Match || b.Explained || b.Prefix >= 0 {
				t.Fatalf("Verify of other values: %+v", b)
			}
		}
	})
}

func FuzzRecognize(f *testing.F) {
	corpus(f, liveName, func(b []byte) { f.Add(b) })
	corpus(f, "ascii_runtime_measurements", func(b []byte) { f.Add(b) })
	corpus(f, "ima_kexec_buffer.bin", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		form, ok := Recognize(b)
		if !ok {
			return
		}
		for _, err := range form.Stream(bytes.NewReader(b), -1) {
			if err != nil {
				break
			}
		}
	})
}

func FuzzParsePCRs(f *testing.F) {
	corpus(f, "pcrs.txt", func(b []byte) { f.Add(b, uint16(0), uint32(0)) })
	corpus(f, "pcrs.sha256", func(b []byte) { f.Add(b, AlgSHA256, uint32(0)) })
	f.Add([]byte("  sha1:\n    10: 0x"+strings.Repeat("AB", 20)+"\n"), uint16(0), uint32(0))
	f.Add([]byte(strings.Repeat("AB", 32)+"\n"), AlgSM3_256, uint32(10))
	f.Fuzz(func(t *testing.T, b []byte, alg uint16, pcr uint32) {
		pcrs, err := ParsePCRs(b, alg, pcr)
		if (err == nil) != (len(pcrs) > 0) || err != nil && !errors.Is(err, ErrPCRs) {
			t.Fatal(pcrs, err)
		}
		for _, values := range pcrs {
			for alg, v := range values {
				if len(v) != AlgSize(alg) {
					t.Fatalf("%s: %d bytes", AlgName(alg), len(v))
				}
			}
		}
	})
}

// A length in the input never sizes an allocation.
func TestNothingAllocatedForALength(t *testing.T) {
	head := make([]byte, 24)
	claim := func(template string, n uint32) []byte {
		b := binary.LittleEndian.AppendUint32(bytes.Clone(head), uint32(len(template)))
		b = append(b, template...)
		if template == templateIMA {
			b = append(b, make([]byte, 20)...)
		}
		return binary.LittleEndian.AppendUint32(b, n)
	}
	huge := claim("ima-ng", 1<<32-1)
	inner := append(claim("ima-ng", 4), 0xff, 0xff, 0xff, 0xff)
	buffer := make([]byte, HeaderSize)
	Header{Version: 1, Size: 1 << 40, Count: 1<<64 - 2}.Put(buffer)
	buffer = append(buffer, huge...)
	for name, read := range map[string]func() error{
		"Reader": func() error {
			_, err := NewReader(bytes.NewReader(huge), &ReaderOptions{MaxRecord: 1 << 40}).Next()
			return err
		},
		"Reader, template ima": func() error {
			_, err := NewReader(bytes.NewReader(claim("ima", 1<<32-1)), &ReaderOptions{MaxRecord: 1 << 40}).Next()
			return err
		},
		"Reader, its limit": func() error {
			_, err := NewReader(bytes.NewReader(huge), nil).Next()
			if !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
			return err
		},
		"Records": func() (last error) {
			for _, err := range Records(huge, &ReaderOptions{MaxRecord: 1 << 40}) {
				last = err
			}
			return last
		},
		"Fields": func() (last error) {
			for rec := range Records(inner, nil) {
				for _, err := range rec.Fields() {
					last = err
				}
			}
			return last
		},
		"Restore": func() error {
			_, _, err := Restore(buffer)
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := read()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 4*readSize {
			t.Errorf("%s: %v after %d bytes allocated", name, err, n)
		}
	}
}
