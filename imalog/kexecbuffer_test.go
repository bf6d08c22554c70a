package imalog

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// What is dumped is what a machine had sent, and is restored as it was.
func TestCapturedDump(t *testing.T) {
	n := 0
	for _, c := range captures(t) {
		b, opts := c.binary(t, "sha1")
		list := records(t, b, opts)
		want := make([]byte, HeaderSize, HeaderSize+len(b))
		Header{Version: 1, Size: uint64(HeaderSize + len(b)), Count: uint64(len(list))}.Put(want)
		want = append(want, b...)
		got := make([]byte, len(want)+100)
		for name, dump := range map[string]func() (int, error){
			"Dump":                 func() (int, error) { return Dump(got, Records(b, opts)) },
			"DumpBinary":           func() (int, error) { return DumpBinary(got, b, len(list)) },
			"DumpBinary, counting": func() (int, error) { return DumpBinary(got, b, -1) },
		} {
			clear(got)
			if size, err := dump(); err != nil || !bytes.Equal(got[:size], want) {
				t.Errorf("%s: %s: %d, %v", c.name(), name, size, err)
			}
		}
		if len(list) == 0 || list[0].Template == templateIMA {
			continue
		}
		back, h, err := Restore(got)
		if err != nil || h.Count != uint64(len(list)) || !bytes.Equal(encode(t, back), b) {
			t.Errorf("%s: %d of %d records restored: %v", c.name(), len(back), len(list), err)
		}
		n++
	}
	t.Logf("%d lists", n)
	sent := captured{"testdata/handover/7.2-cloud-6.1-cloud/sent"}.read(t, "ima_kexec_buffer.bin")
	again := make([]byte, len(sent))
	if n, err := Dump(again, Records(sent[HeaderSize:], nil)); n != len(sent) || err != nil || !bytes.Equal(again, sent) {
		t.Errorf("a buffer that was sent comes out as another: %d, %v", n, err)
	}
}

// A list that does not fit is cut at a record, and a kernel accepts what is left.
func TestDumpCuts(t *testing.T) {
	list := odd(t)
	b := encode(t, list)
	sizes := []int{0, HeaderSize - 1}
	for end, i := HeaderSize, 0; i <= len(list); i++ {
		sizes = append(sizes, end-1, end, end+1, end+30)
		if i < len(list) {
			end += list[i].BinarySize()
		}
	}
	for _, size := range sizes {
		for name, dump := range map[string]func([]byte) (int, error){
			"Dump":       func(dst []byte) (int, error) { return Dump(dst, all(list)) },
			"DumpBinary": func(dst []byte) (int, error) { return DumpBinary(dst, b, len(list)) },
		} {
			dst := bytes.Repeat([]byte{0xee}, size+1)
			n, err := dump(dst[:size])
			if size < HeaderSize {
				if n != 0 || err != ErrShort || dst[0] != 0xee {
					t.Fatalf("%s into %d bytes: %d, %v", name, size, n, err)
				}
				continue
			}
			kept, h, restored := Restore(dst[:n])
			if restored != nil || h.Size != uint64(n) || h.Count != uint64(len(kept)) {
				t.Fatalf("%s into %d bytes: %+v, %d kept: %v", name, size, h, len(kept), restored)
			}
			if want := encode(t, list[:len(kept)]); !bytes.Equal(dst[HeaderSize:n], want) {
				t.Fatalf("%s into %d bytes: another list", name, size)
			}
			fits := len(kept) == len(list)
			if fits != (err == nil) || !fits && (err != ErrShort || n+list[len(kept)].BinarySize() <= size) {
				t.Fatalf("%s into %d bytes: %d records, %v", name, size, len(kept), err)
			}
			if dst[n] != 0xee {
				t.Fatalf("%s into %d bytes wrote behind %d", name, size, n)
			}
		}
	}
}

func TestDumpOfABrokenList(t *testing.T) {
	list := odd(t)
	b := encode(t, list)
	cut := b[:len(b)-1]
	dst := make([]byte, 1<<20)
	for name, dump := range map[string]func() (int, error){
		"Dump":       func() (int, error) { return Dump(dst, Records(cut, nil)) },
		"DumpBinary": func() (int, error) { return DumpBinary(dst, cut, -1) },
	} {
		n, err := dump()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		if kept, _, err := Restore(dst[:n]); len(kept) != len(list)-1 || err != nil {
			t.Errorf("%s: %d of %d records kept: %v", name, len(kept), len(list), err)
		}
	}
	bad := []Record{list[0], {PCR: 10, Digest: list[0].Digest}}
	if n, err := Dump(dst, all(bad)); !errors.Is(err, ErrTemplate) || n != HeaderSize+list[0].BinarySize() {
		t.Errorf("%d, %v", n, err)
	}
}

// What the kernel does in ways that no capture shows.
func TestRestoreRules(t *testing.T) {
	m := newMachine(t)
	ng := m.file("/x")
	dump := func(size, count uint64, list ...Record) []byte {
		b := make([]byte, HeaderSize)
		b = append(b, encode(t, list)...)
		if size == 0 {
			size = uint64(len(b))
		}
		Header{Version: 1, Size: size, Count: count}.Put(b)
		return b
	}
	named := func(template string) Record {
		rec := ng
		rec.Template = template
		return rec
	}
	format := m.record("n-ng|d-ng", "/x\x00", "sha256:\x00abc")
	counted := m.record("d|n", "01234567890123456789", "/x\x00")
	for name, test := range map[string]struct {
		src    []byte
		kept   []string // templates
		err    error
		silent bool
	}{
		"too short for a header":     {src: make([]byte, HeaderSize-1)},
		"no records":                 {src: dump(0, 0)},
		"size before the records":    {src: dump(10, 1, ng)},
		"size that wraps around":     {src: dump(1<<64-1, 1, ng), err: ErrSize, silent: true},
		"size that just wraps":       {src: dump(1<<56, 1, ng), err: ErrSize, silent: true},
		"an empty template name":     {src: append(dump(HeaderSize+32, 1), make([]byte, 32)...), err: ErrTemplate},
		"a name with a NUL":          {src: dump(0, 1, named("ima-ng\x00x")), kept: []string{"ima-ng"}},
		"a name of 69":               {src: dump(0, 1, named("d-ng|n-ng|"+string(bytes.Repeat([]byte("n"), 59)))), err: ErrTooLong},
		"a format":                   {src: dump(0, 1, format), kept: []string{"n-ng|d-ng"}},
		"a format twice":             {src: dump(0, 2, format, format), kept: []string{"n-ng|d-ng", "n-ng|d-ng"}},
		"the format of ima-ng":       {src: dump(0, 1, named("d-ng|n-ng")), kept: []string{"ima-ng"}},
		"the format of ima":          {src: dump(0, 1, counted), kept: []string{"ima"}},
		"template ima with a length": {src: dump(0, 1, named("ima\x00")), err: ErrOldIMA},
		"an unknown template":        {src: dump(0, 2, ng, named("bogus")), kept: []string{"ima-ng"}, err: ErrTemplate, silent: true},
		"fields that do not fit":     {src: dump(0, 2, ng, named("ima-sig")), kept: []string{"ima-ng"}, err: ErrFields},
	} {
		t.Run(name, func(t *testing.T) {
			list, _, err := Restore(test.src)
			var got []string
			for _, rec := range list {
				got = append(got, rec.Template)
			}
			if len(got) != len(test.kept) || len(got) > 0 && got[0] != test.kept[0] {
				t.Errorf("kept %q, want %q", got, test.kept)
			}
			var re *RestoreError
			if !errors.Is(err, test.err) || err != nil && (!errors.As(err, &re) || re.Silent != test.silent) {
				t.Errorf("%v, want %v", err, test.err)
			}
			for rec, err := range Records(test.src[min(HeaderSize, len(test.src)):], nil) {
				if err == nil {
					checkRestorable(t, &rec)
				}
			}
		})
	}
	if err := (&Record{Template: templateIMA}).Restorable(); !errors.Is(err, ErrOldIMA) {
		t.Errorf("template \"ima\" as it is listed: %v", err)
	}
	// Template "ima", as it is listed then.
	list, _, _ := Restore(dump(0, 1, counted))
	if line, err := list[0].AppendText(nil); err != nil || !bytes.HasSuffix(line, []byte(" ima 3031323334353637383930313233343536373839 /x\n")) {
		t.Errorf("%q, %v", line, err)
	}
}

// What is in another form is not dumped: no kernel would restore it.
func TestDumpOtherForms(t *testing.T) {
	m := newMachine(t)
	good, long, big := m.file("/a"), m.file("/b"), m.file("/c")
	long.Digest = make([]byte, 32)
	big.BigEndian = true
	for name, other := range map[string]Record{"SHA-256 digest": long, "big-endian": big} {
		dst := make([]byte, 1<<12)
		n, err := Dump(dst, all([]Record{good, other, good}))
		var at *RecordError
		if !errors.Is(err, ErrForm) || !errors.As(err, &at) || at.Record != 1 {
			t.Errorf("%s: %v", name, err)
		}
		if list, h, err := Restore(dst[:n]); err != nil || len(list) != 1 || h.Count != 1 {
			t.Errorf("%s: %d records restored of %+v, %v", name, len(list), h, err)
		}
	}
}
