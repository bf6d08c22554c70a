package linuximage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestBzImage(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		image  []byte
		offset uint64
	}{
		"empty":            {nil, 0},
		"short":            {make([]byte, 4095), 4095},
		"zeros":            {make([]byte, 8192), offBootFlag},
		"zboot":            {append([]byte("MZ\x00\x00zimg"), make([]byte, 8192)...), 0},
		"gzip":             {append([]byte{0x1f, 0x8b}, make([]byte, 8192)...), 0},
		"ELF":              {append([]byte("\x7fELF"), make([]byte, 8192)...), 0},
		"no magic":         {testKernel(1<<16, func(b []byte) { b[offHeader] = 'h' }), offHeader},
		"old protocol":     {testKernel(1<<16, func(b []byte) { le.PutUint16(b[offVersion:], 0x20b) }), offVersion},
		"32 bits":          {testKernel(1<<16, func(b []byte) { le.PutUint16(b[offXLoadFlags:], 2) }), offXLoadFlags},
		"short header":     {testKernel(1<<16, func(b []byte) { b[offJump] = 0x5f }), offJump},
		"long header":      {testKernel(1<<16, func(b []byte) { b[offJump] = 0x8f }), offJump},
		"no code":          {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offSyssize:], 0) }), offSyssize},
		"cut":              {testKernel(1<<16, nil)[:60000], 60000},
		"cut by a byte":    {testKernel(1<<16, nil)[:2048+1<<16-1], 2048 + 1<<16 - 1},
		"syssize":          {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offSyssize:], 1<<31) }), 2048 + 1<<16},
		"setup_sects":      {testKernel(1<<16, func(b []byte) { b[offSetupSects] = 255 }), 2048 + 1<<16},
		"init_size":        {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offInitSize:], 1<<16-1) }), offInitSize},
		"payload":          {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offPayload:], 1<<16) }), offPayload},
		"payload overflow": {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offPayload:], 1<<32-1) }), offPayload},
		"alignment":        {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offAlignment:], 0x300000) }), offAlignment},
		"no alignment":     {testKernel(1<<16, func(b []byte) { le.PutUint32(b[offAlignment:], 0) }), offAlignment},
		"pref_address":     {testKernel(1<<16, func(b []byte) { le.PutUint64(b[offPrefAddress:], 0x1000001) }), offPrefAddress},
		"low pref_address": {testKernel(1<<16, func(b []byte) { le.PutUint64(b[offPrefAddress:], 0x1000) }), offPrefAddress},
	} {
		s, err := newSource(bytes.NewReader(c.image))
		if err != nil {
			t.Fatal(err)
		}
		b, err := readBzImage(s)
		var e *ImageError
		if !errors.As(err, &e) || !errors.Is(err, ErrFormat) || e.Offset != c.offset {
			t.Errorf("%s: %+v, %v, want an error at %#x", name, b, err, c.offset)
		}
	}
	// setup_sects of 0 means 4.
	old := testKernel(1<<16, func(b []byte) { b[offSetupSects] = 0 })
	old = append(old[:2048], append(make([]byte, 512), old[2048:]...)...)
	s, _ := newSource(bytes.NewReader(old))
	if b, err := readBzImage(s); err != nil || b.setup != 2560 {
		t.Errorf("setup_sects 0: %v", err)
	}
}

// A kernel that cannot start with five levels of page tables is refused where they are
// in use.
func TestFiveLevels(t *testing.T) {
	for name, c := range map[string]struct {
		cpuinfo string
		flags   uint16
		refused bool
	}{
		"in use":                {"processor\t: 0\nflags\t\t: fpu vme la57 rdpid\n", kernel64, true},
		"in use, and it can":    {"processor\t: 0\nflags\t\t: fpu vme la57 rdpid\n", kernel64 | fiveLevel, false},
		"not in use":            {"processor\t: 0\nflags\t\t: fpu vme rdpid\n", kernel64, false},
		"a word like it":        {"processor\t: 0\nmodel name\t: la57\nflags\t\t: fpu la570\n", kernel64, false},
		"nobody knows":          {"", kernel64, false},
		"no file, and it can't": {"-", kernel64, false},
	} {
		root := testRoot(t, biosMachine)
		if c.cpuinfo != "-" {
			root["proc/cpuinfo"] = file(c.cpuinfo)
		}
		l := testLinux()
		l.Kernel = bytes.NewReader(testKernel(1<<20, func(b []byte) { binary.LittleEndian.PutUint16(b[offXLoadFlags:], c.flags) }))
		_, err := tryPlan(l, root, 1, nil)
		var e *ImageError
		if refused := errors.As(err, &e) && e.Offset == offXLoadFlags; refused != c.refused || !refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the file holds, an answer comes back and what is accepted can be
// planned or has no place.
func FuzzBzImage(f *testing.F) {
	f.Add(testKernel(1<<12, nil))
	f.Add(testKernel(1<<16, nil)[:5000])
	f.Add(testKernel(1<<12, func(b []byte) { b[offSetupSects] = 0 }))
	f.Add(make([]byte, 5000))
	root := testRoot(f, biosMachine)
	f.Fuzz(func(t *testing.T, image []byte) {
		img, err := tryPlan(&Linux{Kernel: bytes.NewReader(image), Cmdline: "x"}, root, 4096, nil)
		if err == nil {
			read(t, img, root)
		}
	})
}
