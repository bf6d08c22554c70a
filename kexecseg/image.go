package kexecseg

import (
	"errors"
	"fmt"
	"sync"
)

// Flags of kexec_load(2) (include/uapi/linux/kexec.h).
const (
	FlagOnCrash = 1         // KEXEC_ON_CRASH
	ArchX86_64  = 62 << 16  // KEXEC_ARCH_X86_64
	ArchARM64   = 183 << 16 // KEXEC_ARCH_AARCH64
)

// Image is what kexec_load(2) takes. A Target makes one; it may also be put
// together by hand.
type Image struct {
	Entry    uint64 // physical address of the first instruction
	Flags    uint64 // of kexec_load(2): the architecture
	Segments []Segment

	// IMA is where the kexec buffer of the measurement list lies: whole pages
	// inside the bytes of one segment. Empty: the image carries no list.
	IMA Range

	// Release, when not nil, is called once by Close.
	Release func() error

	mu       sync.Mutex // guards what is below it
	closed   bool
	mappings map[*Mapping]bool
}

// ErrImage means that an image is none that the kernel would take.
var ErrImage = errors.New("not an image that kexec_load takes")

// Check applies the rules of kernel/kexec_core.c: sanity_check_segment_list that
// need no knowledge of the machine, and a few whose breach would only show at the
// jump: the entry and the IMA buffer lie in the bytes of a segment. Errors
// wrap ErrImage; for a crash image, which is not this package's to load, it is
// ErrCrashImage, and for one that was closed, whose bytes may be gone, ErrClosed. What
// depends on the machine's memory is the Planner's to keep.
func (img *Image) Check() error {
	if img.isClosed() {
		return fmt.Errorf("kexecseg: %w", ErrClosed)
	}
	if img.Flags&FlagOnCrash != 0 {
		return fmt.Errorf("kexecseg: %w", ErrCrashImage)
	}
	// No segments would be an unload.
	if n := len(img.Segments); n == 0 || n > maxSegments {
		return imageError("%d segments, and kexec takes 1 to %d", n, maxSegments)
	}
	entered := false
	for i, seg := range img.Segments {
		p := seg.Phys
		switch {
		case p.Size == 0:
			return imageError("segment %d has no memory", i)
		case p.wraps():
			return imageError("segment %d at %#x leaves the address space with %d bytes", i, p.Start, p.Size)
		case p.Start%pageSize != 0 || p.Size%pageSize != 0:
			return imageError("segment %d at %v is not made of whole pages", i, p)
		case uint64(len(seg.Buf)) > p.Size:
			return imageError("segment %d has %d bytes for %d of memory at %v", i, len(seg.Buf), p.Size, p)
		}
		for j, other := range img.Segments[:i] {
			if p.Overlaps(other.Phys) {
				return imageError("segment %d at %v overlaps segment %d at %v", i, p, j, other.Phys)
			}
		}
		entered = entered || seg.bytes().Contains(Range{img.Entry, 1})
	}
	if !entered {
		return imageError("the entry %#x is in no segment's bytes", img.Entry)
	}
	if img.IMA.Size == 0 {
		return nil
	}
	if img.IMA.Start%pageSize != 0 || img.IMA.Size%pageSize != 0 {
		return imageError("the IMA buffer at %v is not made of whole pages", img.IMA)
	}
	if img.segment(img.IMA) < 0 {
		return imageError("the IMA buffer at %v is in no segment's bytes", img.IMA)
	}
	return nil
}

func imageError(format string, args ...any) error {
	return fmt.Errorf("kexecseg: %w: "+format, append([]any{ErrImage}, args...)...)
}

// bytes is the part of the segment's memory that Buf fills.
func (s Segment) bytes() Range { return Range{s.Phys.Start, uint64(len(s.Buf))} }

// segment returns the index of the segment whose bytes hold all of r; -1: none.
func (img *Image) segment(r Range) int {
	for i, seg := range img.Segments {
		if !r.wraps() && seg.bytes().Contains(r) {
			return i
		}
	}
	return -1
}

// Close ends the image's mappings and calls Release. What is loaded stays loaded. It
// waits for nobody: the image must not be in the hands of Load or Digest, and a second
// Close does not wait for the first one's Release.
func (img *Image) Close() error {
	img.mu.Lock()
	before := img.closed
	img.closed = true
	clear(img.mappings)
	img.mu.Unlock()
	if before || img.Release == nil {
		return nil
	}
	return img.Release()
}

func (img *Image) isClosed() bool {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.closed
}
