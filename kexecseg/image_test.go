package kexecseg

import (
	"errors"
	"testing"
)

func testImage() *Image {
	return &Image{
		Entry: 0x101000,
		Flags: ArchX86_64,
		Segments: []Segment{
			{Buf: make([]byte, 0x1800), Phys: Range{0x100000, 0x4000}},
			{Buf: make([]byte, 0x3000), Phys: Range{0x200000, 0x3000}},
		},
		IMA: Range{0x201000, 0x2000},
	}
}

func TestCheck(t *testing.T) {
	if err := testImage().Check(); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(*Image){
		"no segments": func(img *Image) { img.Segments, img.IMA = nil, Range{} },
		"17 segments": func(img *Image) {
			for i := range uint64(15) {
				img.Segments = append(img.Segments, Segment{Phys: Range{0x300000 + i<<12, 4096}})
			}
		},
		"start inside a page":          func(img *Image) { img.Segments[0].Phys.Start += 8 },
		"half a page":                  func(img *Image) { img.Segments[0].Phys.Size -= 2048 },
		"more bytes than memory":       func(img *Image) { img.Segments[0].Phys.Size = 0x1000 },
		"no memory":                    func(img *Image) { img.Segments[1] = Segment{Phys: Range{0x200000, 0}} },
		"past the address space":       func(img *Image) { img.Segments[1].Phys.Start = ^uint64(0xfff) },
		"overlap":                      func(img *Image) { img.Segments[1].Phys.Start = 0x103000 },
		"entry outside":                func(img *Image) { img.Entry = 0x104000 },
		"entry in the zeros":           func(img *Image) { img.Entry = 0x101800 },
		"IMA outside":                  func(img *Image) { img.IMA.Start = 0x300000 },
		"IMA past its segment":         func(img *Image) { img.IMA.Size = 0x3000 },
		"IMA in the zeros":             func(img *Image) { img.IMA = Range{0x102000, 0x1000} },
		"IMA buffer of half a page":    func(img *Image) { img.IMA.Size = 0x1800 },
		"IMA buffer across the border": func(img *Image) { img.IMA = Range{0x1ff000, 0x2000} },
	} {
		img := testImage()
		damage(img)
		if err := img.Check(); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	crash := testImage()
	crash.Flags |= FlagOnCrash
	if err := crash.Check(); !errors.Is(err, ErrCrashImage) {
		t.Errorf("crash image: %v", err)
	}
	if err := Load(crash); !errors.Is(err, ErrCrashImage) && !errors.Is(err, ErrNotSupported) {
		t.Errorf("crash image: %v", err)
	}
}

func TestClose(t *testing.T) {
	released := 0
	img := testImage()
	img.Release = func() error {
		released++
		if _, err := img.Map(img.IMA); !errors.Is(err, ErrClosed) { // and not held up
			t.Errorf("mapped while it is closed: %v", err)
		}
		return errors.New("told")
	}
	m, err := img.Map(img.IMA)
	if err != nil {
		t.Fatal(err)
	}
	if err := img.Close(); err == nil || released != 1 {
		t.Errorf("%v, released %d times", err, released)
	}
	if err := img.Close(); err != nil || released != 1 {
		t.Errorf("again: %v, released %d times", err, released)
	}
	if m.Bytes() != nil {
		t.Error("the mapping outlives the image")
	}
	if err := m.Unmap(); !errors.Is(err, ErrUnmapped) {
		t.Error(err)
	}
	if _, err := img.Map(img.IMA); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := img.Check(); !errors.Is(err, ErrClosed) {
		t.Errorf("checked: %v", err)
	}
	if _, err := img.Digest(); !errors.Is(err, ErrClosed) {
		t.Errorf("digested: %v", err)
	}
	if err := Load(img); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotSupported) {
		t.Errorf("loaded: %v", err)
	}
}
