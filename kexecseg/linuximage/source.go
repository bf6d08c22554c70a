package linuximage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// source is a reader whose size is known.
type source struct {
	io.ReaderAt
	size uint64
}

// newSource finds out how much there is to read, without reading it: the reader
// says so itself (bytes.Reader, io.SectionReader), or is a regular file; otherwise
// its end is searched for with reads of one byte. A nil reader is empty.
func newSource(r io.ReaderAt) (source, error) {
	if r == nil {
		return source{}, nil
	}
	if s, ok := r.(interface{ Size() int64 }); ok {
		return source{r, uint64(max(s.Size(), 0))}, nil
	}
	if f, ok := r.(interface{ Stat() (fs.FileInfo, error) }); ok {
		info, err := f.Stat()
		if err != nil {
			return source{}, err
		}
		if info.Mode().IsRegular() {
			return source{r, uint64(info.Size())}, nil
		}
	}
	var failed error
	end := func(off int64) bool {
		n, err := r.ReadAt(make([]byte, 1), off)
		if n == 0 && err != nil && !errors.Is(err, io.EOF) {
			failed = err
		}
		return n == 0
	}
	low, high := int64(0), int64(1)
	for high < 1<<62 && !end(high) {
		low, high = high, 2*high
	}
	for low < high {
		if mid := low + (high-low)/2; end(mid) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return source{r, uint64(low)}, failed
}

// read fills buf from off; less is an error.
func (s source) read(buf []byte, off uint64) error {
	if len(buf) == 0 {
		return nil
	}
	n, err := s.ReadAt(buf, int64(off))
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read at offset %d: %w", off+uint64(n), err)
}
