package kexecseg

import (
	"errors"
	"fmt"
)

// Errors of Map, Unmap and WriteAt, wrapped in a MapError.
var (
	ErrOutside  = errors.New("outside the bytes of any one segment")
	ErrMapped   = errors.New("its segment is mapped already")
	ErrUnmapped = errors.New("not mapped any more")
	ErrClosed   = errors.New("the image is closed")
)

// MapError says which range of an image could not be mapped, unmapped or written.
type MapError struct {
	Op    string // "map", "unmap", "write"
	Range Range  // asked for
	In    Range  // what stands in the way, or the bounds that were passed; may be empty
	Err   error  // one of the errors above
}

func (e *MapError) Error() string {
	s := fmt.Sprintf("kexecseg: %s %v: %v", e.Op, e.Range, e.Err)
	if e.In.Size > 0 {
		s += fmt.Sprintf(" (%v)", e.In)
	}
	return s
}

func (e *MapError) Unwrap() error { return e.Err }

// Mapping is a window on the bytes of a planned segment.
type Mapping struct {
	img *Image
	r   Range
}

// Map gives access to a physical range that lies in the bytes of one segment. A
// segment has one mapping at a time: the next one needs Unmap first. The mapping
// is found by address, so that segments may be sorted or merged in between.
func (img *Image) Map(r Range) (*Mapping, error) {
	img.mu.Lock()
	defer img.mu.Unlock()
	fail := func(in Range, err error) (*Mapping, error) {
		return nil, &MapError{Op: "map", Range: r, In: in, Err: err}
	}
	if img.closed {
		return fail(Range{}, ErrClosed)
	}
	i := img.segment(r)
	if i < 0 {
		return fail(Range{}, ErrOutside)
	}
	phys := img.Segments[i].Phys
	for m := range img.mappings {
		if m.r.Overlaps(phys) {
			return fail(m.r, ErrMapped)
		}
	}
	m := &Mapping{img: img, r: r}
	if img.mappings == nil {
		img.mappings = make(map[*Mapping]bool)
	}
	img.mappings[m] = true
	return m, nil
}

// bytes finds the mapped bytes, in whichever segment holds them by now.
func (m *Mapping) bytes() ([]byte, error) {
	m.img.mu.Lock()
	defer m.img.mu.Unlock()
	if !m.img.mappings[m] {
		return nil, ErrUnmapped
	}
	i := m.img.segment(m.r)
	if i < 0 {
		return nil, ErrOutside
	}
	seg := m.img.Segments[i]
	off := m.r.Start - seg.Phys.Start
	return seg.Buf[off : off+m.r.Size : off+m.r.Size], nil
}

// Bytes returns the mapped bytes; nil after Unmap, after the image's Close, and
// when no segment holds them any more. The slice is good until the segments
// change.
func (m *Mapping) Bytes() []byte {
	b, _ := m.bytes()
	return b
}

// Range returns what was mapped.
func (m *Mapping) Range() Range { return m.r }

// WriteAt implements io.WriterAt. A write that passes the end of the mapping
// writes nothing and is a MapError.
func (m *Mapping) WriteAt(p []byte, off int64) (int, error) {
	buf, err := m.bytes()
	if err != nil {
		return 0, &MapError{Op: "write", Range: m.r, Err: err}
	}
	n := uint64(len(buf))
	if off < 0 || uint64(off) > n || uint64(len(p)) > n-uint64(off) {
		return 0, &MapError{Op: "write", Range: Range{m.r.Start + uint64(off), uint64(len(p))}, In: m.r, Err: ErrOutside}
	}
	return copy(buf[off:], p), nil
}

// Unmap ends the mapping. What was written stays in the image.
func (m *Mapping) Unmap() error {
	m.img.mu.Lock()
	defer m.img.mu.Unlock()
	if !m.img.mappings[m] {
		return &MapError{Op: "unmap", Range: m.r, Err: ErrUnmapped}
	}
	delete(m.img.mappings, m)
	return nil
}
