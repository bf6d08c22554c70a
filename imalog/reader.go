package imalog

import (
	"encoding/binary"
	"io"
	"iter"
)

// ReaderOptions say what form of a list is read. The zero value is
// binary_runtime_measurements of a little-endian kernel, or of any kernel that
// uses the canonical form (ima_canonical_fmt).
type ReaderOptions struct {
	// DigestSize is the size of the digests in bytes: 20 if zero, AlgSize(alg) for
	// binary_runtime_measurements_<alg>.
	DigestSize int
	// ByteOrder is that of the kernel that wrote the list; nil is little-endian.
	ByteOrder binary.ByteOrder
	// MaxRecord is the size in bytes from which on a record is refused with
	// ErrTooLarge. Zero is 64 MiB, more than a kernel can allocate for the fields
	// of one.
	MaxRecord uint64
}

const maxRecord = 64 << 20

// A Reader reads a list in binary form as a stream, in constant memory.
type Reader struct {
	in     window
	p      parser
	offset int64
	count  int
	rec    Record
	err    error
}

// NewReader returns a Reader of a list in binary form. It buffers.
func NewReader(r io.Reader, opts *ReaderOptions) *Reader {
	return &Reader{in: window{r: r}, p: newParser(opts)}
}

// Next returns the next record. The record is valid until the next call of Next. At the
// end of the list the error is io.EOF; otherwise it is a *RecordError that
// unwraps to ErrFormat, ErrTooLarge, io.ErrUnexpectedEOF where the list ends
// within a record, or what the underlying reader gave. An error stays.
func (r *Reader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	err := r.next()
	if err == nil {
		return &r.rec, nil
	}
	if err == io.EOF && len(r.in.unused()) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != io.EOF {
		err = &RecordError{r.offset, r.count, err}
	}
	r.err = err
	return nil, err
}

// Offset returns the number of bytes of the records that Next has returned.
func (r *Reader) Offset() int64 { return r.offset }

// Count returns the number of records that Next has returned.
func (r *Reader) Count() int { return r.count }

// next parses a record, reading more where it has to. Its error is io.EOF
// wherever the input has ended, and another call may then find that it has not.
func (r *Reader) next() error {
	for {
		n, ok, err := r.p.parse(r.in.unused(), &r.rec)
		if err != nil {
			return err
		}
		if ok {
			r.in.pos += int(n)
			r.offset += int64(n)
			r.count++
			return nil
		}
		if err := r.in.fill(); err != nil {
			return err
		}
	}
}

// Records iterates over a list in binary form that is in memory. The records
// alias b, so they are valid as long as it is unchanged; the sequence can be
// ranged over again. An error comes last, as a *RecordError like Reader.Next's.
func Records(b []byte, opts *ReaderOptions) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		p := newParser(opts)
		var rec Record
		rest := b
		for count := 0; len(rest) > 0; count++ {
			n, ok, err := p.parse(rest, &rec)
			if !ok {
				if err == nil {
					err = io.ErrUnexpectedEOF
				}
				yield(Record{}, &RecordError{int64(len(b) - len(rest)), count, err})
				return
			}
			if !yield(rec, nil) {
				return
			}
			rest = rest[n:]
		}
	}
}
