package linuximage

import (
	"bytes"
	"fmt"
	"io"
)

// JoinInitrds makes one initrd of several, in order: each begins at a multiple of
// four bytes, with zeros before it, as an unpacking kernel expects
// (Documentation/driver-api/early-userspace/buffer-format.rst). Nil readers are left
// out. The initrds are read when the result is; an error is about finding the end
// of one.
func JoinInitrds(initrds ...io.ReaderAt) (io.ReaderAt, error) {
	var j joined
	for _, r := range initrds {
		s, err := newSource(r)
		if err != nil {
			return nil, fmt.Errorf("linuximage: initrd: %w", err)
		}
		if s.size > 0 {
			j = append(j, s)
		}
	}
	return j, nil
}

// joined reads as one initrd.
type joined []source

// Size is found as newSource finds it.
func (j joined) Size() int64 {
	var n uint64
	for _, s := range j {
		n = roundUp(n, 4) + s.size
	}
	return int64(n)
}

// ReadAt implements io.ReaderAt.
func (j joined) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("linuximage: initrd: offset %d", off)
	}
	at, start := uint64(off), uint64(0)
	for _, s := range j {
		padded := roundUp(start, 4)
		for ; n < len(p) && at < padded; n++ {
			p[n] = 0
			at++
		}
		if end := padded + s.size; n < len(p) && at < end {
			part := p[n:min(uint64(len(p)), uint64(n)+end-at)]
			if err := s.read(part, at-padded); err != nil {
				return n, err
			}
			n += len(part)
			at += uint64(len(part))
		}
		start = padded + s.size
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// emptyArchive is a cpio archive without a file: only the trailer.
func emptyArchive() io.ReaderAt {
	const name = "TRAILER!!!\x00"
	b := []byte("070701")
	for field := range 13 { // of eight hexadecimal digits; nlink is 1, namesize that of name
		v := 0
		switch field {
		case 4:
			v = 1
		case 11:
			v = len(name)
		}
		b = fmt.Appendf(b, "%08x", v)
	}
	b = append(b, name...)
	return bytes.NewReader(append(b, make([]byte, -len(b)&3)...))
}
