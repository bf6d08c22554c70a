package imalog

import "io"

// A window is the part of a stream that is in memory.
type window struct {
	r   io.Reader
	buf []byte
	pos int // first byte that is not used yet
	end int // bytes in buf
}

// readSize is what a window asks for at a time: large enough to make system
// calls rare, small enough to stay in the cache while it is hashed.
const readSize = 64 << 10

// unused returns what was read and not used.
func (w *window) unused() []byte { return w.buf[w.pos:w.end] }

// fill reads at least one byte more. The window grows with what was read, never
// with what a length promises.
func (w *window) fill() error {
	if w.pos > 0 {
		w.end = copy(w.buf, w.buf[w.pos:w.end])
		w.pos = 0
	}
	if w.end == len(w.buf) {
		grown := make([]byte, max(readSize, 2*len(w.buf)))
		copy(grown, w.buf[:w.end])
		w.buf = grown
	}
	for range 100 {
		n, err := w.r.Read(w.buf[w.end:])
		w.end += n
		if n > 0 {
			return nil // an error comes again with the next read
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// drop forgets what was read and not used.
func (w *window) drop() { w.pos, w.end = 0, 0 }
