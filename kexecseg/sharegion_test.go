package kexecseg

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func TestSHARegions(t *testing.T) {
	img := testImage()
	all := []SHARegion{{0x100000, 0x4000}, {0x200000, 0x3000}}
	for name, c := range map[string]struct {
		exclude []Range
		want    []SHARegion
	}{
		"everything":                   {nil, all},
		"nothing of it":                {[]Range{{0x180000, 0x1000}, {0x104000, 0}}, all},
		"the IMA buffer":               {[]Range{img.IMA}, []SHARegion{{0x100000, 0x4000}, {0x200000, 0x1000}}},
		"a whole segment":              {[]Range{{0x100000, 0x4000}}, all[1:]},
		"more than a segment":          {[]Range{{0xf0000, 0x20000}}, all[1:]},
		"a hole":                       {[]Range{{0x100800, 0x800}}, []SHARegion{{0x100000, 0x800}, {0x101000, 0x3000}, all[1]}},
		"the start":                    {[]Range{{0x1ff000, 0x2000}}, []SHARegion{all[0], {0x201000, 0x2000}}},
		"two that overlap, not sorted": {[]Range{{0x101000, 0x2000}, {0x100800, 0x1000}}, []SHARegion{{0x100000, 0x800}, {0x103000, 0x1000}, all[1]}},
		"one inside another":           {[]Range{{0x101000, 0x2000}, {0x101800, 0x10}}, []SHARegion{{0x100000, 0x1000}, {0x103000, 0x1000}, all[1]}},
		"both":                         {[]Range{{0, 1 << 40}}, nil},
	} {
		got, err := img.SHARegions(c.exclude...)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %x, %v, want %x", name, got, err, c.want)
		}
	}
	var holes []Range
	for i := range uint64(15) {
		holes = append(holes, Range{0x100010 + i*32, 8})
	}
	if _, err := img.SHARegions(holes...); !errors.Is(err, ErrImage) {
		t.Errorf("17 regions: %v", err)
	}
	if regions, err := img.SHARegions(holes[1:]...); err != nil || len(regions) != 16 {
		t.Errorf("16 regions: %d, %v", len(regions), err)
	}
}

// memory is the image as it will lie in memory, from 0x100000 on.
func memory(img *Image) []byte {
	b := make([]byte, 0x200000)
	for _, s := range img.Segments {
		copy(b[s.Phys.Start-0x100000:], s.Buf)
	}
	return b
}

// The digest is that of the bytes in memory, zero padding included, whatever is
// excluded.
func TestDigest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		img := testImage()
		for _, s := range img.Segments {
			for i := range s.Buf {
				s.Buf[i] = byte(r.Uint32())
			}
		}
		var exclude []Range
		for range r.IntN(4) {
			exclude = append(exclude, Range{0x100000 + r.Uint64N(0x4000), r.Uint64N(0x1000)},
				Range{0x200000 + r.Uint64N(0x3000), r.Uint64N(0x1000)})
		}
		mem := memory(img)
		var hashed []byte
		for _, s := range img.Segments {
			for at := s.Phys.Start; at < s.Phys.End(); at++ {
				out := false
				for _, x := range exclude {
					out = out || at >= x.Start && at < x.Start+x.Size
				}
				if !out {
					hashed = append(hashed, mem[at-0x100000])
				}
			}
		}
		got, err := img.Digest(exclude...)
		if want := sha256.Sum256(hashed); err != nil || got != want {
			t.Fatalf("excluding %v: %x, %v, want %x", exclude, got, err, want)
		}
	}
}

// What handover does: the buffer may be rewritten, anything else may not.
func TestDigestExcludesTheBuffer(t *testing.T) {
	img := testImage()
	sum := func() [32]byte {
		t.Helper()
		d, err := img.Digest(img.IMA)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := sum()
	m, err := img.Map(img.IMA)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Bytes(), bytes.Repeat([]byte{0xa5}, 0x2000))
	if sum() != before {
		t.Error("the buffer is part of the digest")
	}
	for _, at := range []struct{ segment, off int }{{0, 0}, {0, 0x17ff}, {1, 0}, {1, 0xfff}} {
		img.Segments[at.segment].Buf[at.off] ^= 1
		if sum() == before {
			t.Errorf("byte %#x of segment %d is no part of the digest", at.off, at.segment)
		}
		img.Segments[at.segment].Buf[at.off] ^= 1
	}
	if sum() != before {
		t.Error("the image is not what it was")
	}
}

// BenchmarkDigest hashes what a kernel and an initrd take: 160 MiB, a third of them
// padding. In turn with it the floor: the same bytes in one SHA-256. of-floor is our
// speed by the floor's.
func BenchmarkDigest(b *testing.B) {
	img := &Image{Segments: []Segment{
		{Buf: make([]byte, 12<<20), Phys: Range{0x1000000, 60 << 20}},
		{Buf: make([]byte, 100<<20), Phys: Range{0x8000000, 100 << 20}},
	}}
	flat := make([]byte, 160<<20)
	b.SetBytes(int64(len(flat)))
	var floor time.Duration
	for b.Loop() {
		if _, err := img.Digest(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		start := time.Now()
		sha256.Sum256(flat)
		floor += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(floor.Seconds()/b.Elapsed().Seconds(), "of-floor")
}
