package imalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// bigEndian is the list as a big-endian kernel lists it that does not use the
// canonical form.
func bigEndian(t testing.TB, list []Record) []Record {
	var out []Record
	for _, rec := range list {
		big := rec.Clone()
		big.BigEndian = true
		big.Data = nil
		for f, err := range rec.Fields() {
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Clone(f.Data)
			switch f.Kind() {
			case KindUint:
				for i, j := 0, len(data)-1; i < j; i, j = i+1, j-1 {
					data[i], data[j] = data[j], data[i]
				}
			case KindLengths:
				for i := 0; i < len(data); i += 4 {
					binary.BigEndian.PutUint32(data[i:], binary.LittleEndian.Uint32(f.Data[i:]))
				}
			}
			if rec.Template != templateIMA || f.ID() != "d" {
				big.Data = binary.BigEndian.AppendUint32(big.Data, uint32(len(data)))
			}
			big.Data = append(big.Data, data...)
		}
		if !rec.Violation() {
			big.Digest, _ = big.AppendDigest(nil, algOfSize(len(rec.Digest)))
		}
		out = append(out, big)
	}
	return out
}

func encode(t testing.TB, list []Record) []byte {
	var b []byte
	for _, rec := range list {
		var err error
		if b, err = rec.AppendBinary(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestRecognize(t *testing.T) {
	n := 0
	check := func(name string, head []byte, want Form) {
		t.Helper()
		n++
		if want.Options.DigestSize == 0 && !want.Text && !want.Kexec {
			want.Options.DigestSize = 20
		}
		if want.Options.ByteOrder == nil && !want.Text && !want.Kexec {
			want.Options.ByteOrder = binary.LittleEndian
		}
		got, ok := Recognize(head)
		if !ok || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, ok, want)
		}
	}
	for _, c := range captures(t) {
		for _, alg := range []string{"sha1", "sha256"} {
			id, _ := AlgByName(alg)
			b, opts := c.binary(t, alg)
			if len(b) == 0 {
				continue
			}
			opts.DigestSize = AlgSize(id)
			check(c.name()+" "+alg, b, Form{Options: *opts})
			check(c.name()+" "+alg+" one record and a half", b[:min(len(b), 200)], Form{Options: *opts})
			opts.ByteOrder = binary.BigEndian
			big := encode(t, bigEndian(t, records(t, b, &ReaderOptions{DigestSize: opts.DigestSize})))
			check(c.name()+" "+alg+" big-endian", big, Form{Options: *opts})
		}
		if text := c.read(t, "ascii_runtime_measurements"); len(text) > 0 {
			check(c.name()+" text", text, Form{Text: true})
		}
	}
	buffers, _ := filepath.Glob("testdata/*/*/sent/ima_kexec_buffer.bin")
	for _, name := range buffers {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Base(filepath.Dir(filepath.Dir(name))) {
		case "6.12-cloud-version", "6.12-cloud-garbage": // no kexec buffer any more
			continue
		}
		if filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(name)))) == "template-ima-unrestorable" {
			continue
		}
		check(name, b, Form{Kexec: true})
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 4096), "text": []byte("hello, world\n"), "0xff": bytes.Repeat([]byte{0xff}, 4096),
	} {
		if f, ok := Recognize(b); ok {
			t.Errorf("%s is recognized as %+v", name, f)
		}
	}
	t.Logf("%d lists", n)
}

// A big-endian list prints, digests and decodes like the little-endian one.
func TestBigEndian(t *testing.T) {
	for _, c := range captures(t) {
		b, opts := c.binary(t, "sha1")
		little := records(t, b, opts)
		opts.ByteOrder = binary.BigEndian
		big := bigEndian(t, little)
		file := encode(t, big)
		for i, rec := range records(t, file, opts) {
			if !bytes.Equal(encode(t, []Record{rec}), encode(t, big[i:i+1])) {
				t.Fatalf("%s: record %d changed on the way", c.name(), i)
			}
			if f, _ := rec.Field("xattrlengths"); len(f.Data) > 0 {
				continue // these are printed as bytes
			}
			// Otherwise only the digests differ in the text: they cover the lengths.
			rec.Digest = little[i].Digest
			a, err1 := rec.AppendText(nil)
			b, err2 := little[i].AppendText(nil)
			if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Fatalf("%s: record %d prints as %q, want %q", c.name(), i, a, b)
			}
			if rec.Name() != little[i].Name() || rec.BootAggregate() != little[i].BootAggregate() {
				t.Fatalf("%s: record %d is named %q", c.name(), i, rec.Name())
			}
		}
		// The text of a big-endian kernel.
		var lines []byte
		for _, rec := range big {
			lines, _ = rec.AppendText(lines)
		}
		text := NewTextReader(bytes.NewReader(lines), opts)
		for i := range big {
			rec, err := text.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(encode(t, []Record{*rec}), encode(t, big[i:i+1])) {
				t.Fatalf("%s: record %d read from text: %+v", c.name(), i, rec)
			}
		}
	}
}

func TestFormStream(t *testing.T) {
	list := odd(t)
	binaryList := encode(t, list)
	var text []byte
	for _, rec := range list {
		text, _ = rec.AppendText(text)
	}
	buffer := make([]byte, HeaderSize+len(binaryList)+100)
	if _, err := Dump(buffer, Records(binaryList, nil)); err != nil {
		t.Fatal(err)
	}
	big := encode(t, bigEndian(t, list))
	for name, test := range map[string]struct {
		file, want []byte
	}{
		"binary": {binaryList, binaryList}, "text": {text, binaryList}, "kexec": {buffer, binaryList}, "big-endian": {big, big},
	} {
		f, ok := Recognize(test.file)
		if !ok {
			t.Fatal(name)
		}
		stream := f.Stream(bytes.NewReader(test.file), -1)
		for range 2 { // it can be ranged over again
			var got []byte
			for rec, err := range stream {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, _ = rec.AppendBinary(got)
			}
			if !bytes.Equal(got, test.want) {
				t.Errorf("%s: another list", name)
			}
		}
	}
	for _, n := range []int{0, 10, HeaderSize - 1, HeaderSize + 50} {
		for _, err := range (Form{Kexec: true}).Stream(bytes.NewReader(buffer[:n]), -1) {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes of a buffer: %v", n, err)
			}
		}
	}
}

// A kexec buffer that was cut behind a record is not whole, in either byte order.
func TestCutKexecBuffer(t *testing.T) {
	m := newMachine(t)
	m.boot("")
	m.run(5)
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		b := make([]byte, HeaderSize)
		for i := range m.list {
			rec := m.list[i]
			if order == binary.BigEndian {
				rec.BigEndian = true
				rec.Data = nil
				for f := range m.list[i].Fields() {
					rec.Data = order.AppendUint32(rec.Data, uint32(len(f.Data)))
					rec.Data = append(rec.Data, f.Data...)
				}
			}
			b, _ = rec.AppendBinary(b)
		}
		head := order.AppendUint16(nil, 1)
		head = order.AppendUint64(append(head, make([]byte, 6)...), uint64(len(b)))
		copy(b, order.AppendUint64(head, uint64(len(m.list))))

		form, ok := Recognize(b)
		if !ok || !form.Kexec {
			t.Fatalf("%v: recognized as %+v", order, form)
		}
		whole := 0
		for _, err := range form.Stream(bytes.NewReader(b), -1) {
			if err != nil {
				t.Fatal(order, err)
			}
			whole++
		}
		if whole != len(m.list) {
			t.Errorf("%v: %d of %d records", order, whole, len(m.list))
		}
		last := m.list[len(m.list)-1]
		cut := 0
		var failed error
		for _, err := range form.Stream(bytes.NewReader(b), int64(len(b)-last.BinarySize())) {
			if failed = err; err == nil {
				cut++
			}
		}
		if cut != len(m.list)-1 || !errors.Is(failed, io.ErrUnexpectedEOF) {
			t.Errorf("%v: %d of %d records, then %v", order, cut, len(m.list), failed)
		}
	}
}
