package kexecseg

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMap(t *testing.T) {
	img := testImage()
	m, err := img.Map(img.IMA)
	if err != nil {
		t.Fatal(err)
	}
	b := m.Bytes()
	if len(b) != 0x2000 || cap(b) != 0x2000 || m.Range() != img.IMA {
		t.Errorf("%d bytes, room for %d, at %v", len(b), cap(b), m.Range())
	}
	b[0], b[0x1fff] = 1, 2
	if buf := img.Segments[1].Buf; buf[0x1000] != 1 || buf[0x2fff] != 2 {
		t.Error("the segment did not change")
	}

	var e *MapError
	for name, r := range map[string]Range{"the same": img.IMA, "a part": {0x201010, 1}, "the rest of the segment": {0x200000, 0x1000}} {
		if _, err := img.Map(r); !errors.Is(err, ErrMapped) || !errors.As(err, &e) || e.In != img.IMA || !strings.Contains(err.Error(), "0x201000-0x202fff") {
			t.Errorf("%s mapped twice: %v", name, err)
		}
	}
	other, err := img.Map(Range{0x100000, 8})
	if err != nil {
		t.Errorf("another segment: %v", err)
	}

	// The mapping is found by address: segments may be sorted in between.
	slices.Reverse(img.Segments)
	if _, err := img.Map(img.IMA); !errors.Is(err, ErrMapped) {
		t.Errorf("after sorting: %v", err)
	}
	if err := errors.Join(m.Unmap(), other.Unmap()); err != nil {
		t.Error(err)
	}
	if m.Bytes() != nil {
		t.Error("bytes after Unmap")
	}
	if err := m.Unmap(); !errors.Is(err, ErrUnmapped) {
		t.Errorf("a second Unmap: %v", err)
	}
	if _, err := m.WriteAt([]byte{1}, 0); !errors.Is(err, ErrUnmapped) {
		t.Errorf("a write after Unmap: %v", err)
	}
	again, err := img.Map(img.IMA)
	if err != nil || again.Bytes()[0] != 1 || again.Bytes()[0x1fff] != 2 {
		t.Errorf("what was written is gone: %v", err)
	}
}

func TestMapOutside(t *testing.T) {
	img := testImage()
	for name, r := range map[string]Range{
		"nothing":                  {0x200000, 0},
		"before":                   {0xff000, 0x1000},
		"across the start":         {0xff000, 0x2000},
		"the zeros after bytes":    {0x101800, 1},
		"across the end of bytes":  {0x101000, 0x1000},
		"past the end":             {0x203000, 1},
		"both segments":            {0x100000, 0x103000},
		"around the address space": {0x200000, ^uint64(0)},
	} {
		if _, err := img.Map(r); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteAt(t *testing.T) {
	img := testImage()
	m, err := img.Map(Range{0x200ff0, 16})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.WriteAt([]byte("sixteen bytes it"), 0); n != 16 || err != nil {
		t.Error(n, err)
	}
	if n, err := m.WriteAt([]byte("xy"), 14); n != 2 || err != nil {
		t.Error(n, err)
	}
	for _, off := range []int64{-1, 15, 16, 17, 1<<63 - 1} {
		if n, err := m.WriteAt([]byte("zz"), off); n != 0 || !errors.Is(err, ErrOutside) {
			t.Errorf("at %d: %d, %v", off, n, err)
		}
	}
	if got := string(img.Segments[1].Buf[0xff0:0x1001]); got != "sixteen bytes xy\x00" {
		t.Errorf("%q", got)
	}
}

// A mapping is found by address for as long as it lasts: what is written after
// segments were merged lands in the image.
func TestMappingSurvivesMerging(t *testing.T) {
	img := testImage()
	m, err := img.Map(img.IMA)
	if err != nil {
		t.Fatal(err)
	}
	seg := img.Segments[1]
	merged := Segment{Buf: append(make([]byte, 0x1000), seg.Buf...), Phys: Range{seg.Phys.Start - 0x1000, seg.Phys.Size + 0x1000}}
	img.Segments = []Segment{img.Segments[0], merged}
	if _, err := m.WriteAt([]byte("list"), 0); err != nil {
		t.Fatal(err)
	}
	off := img.IMA.Start - merged.Phys.Start
	if got := string(merged.Buf[off : off+4]); got != "list" {
		t.Errorf("the image has %q where the list was written", got)
	}
	img.Segments = img.Segments[:1]
	if _, err := m.WriteAt([]byte("list"), 0); !errors.Is(err, ErrOutside) || m.Bytes() != nil {
		t.Errorf("without its segment: %v, want ErrOutside", err)
	}
}
