package imalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"iter"
)

// A Form is one of the forms that a list comes in.
type Form struct {
	Text    bool // ascii_runtime_measurements
	Kexec   bool // a kexec buffer: a Header, then records in binary form
	Options ReaderOptions
}

// A RecordReader gives a list record by record, and io.EOF at its end. Reader,
// TextReader and Follower are RecordReaders.
type RecordReader interface {
	Next() (*Record, error)
}

// HeadSize is how much of a list Recognize needs at most, in bytes.
const HeadSize = 64 << 10

// digestSizes are those that lists may have: SHA-1, SHA-256 and SM3, SHA-384,
// SHA-512; SHA-224; MD5.
var digestSizes = [...]int{20, 32, 48, 64, 28, 16}

// Recognize tells the form of a list from its first bytes: HeadSize of them, or
// all that there are. It reports false for what is not a list, or too little of
// one.
//
// It takes the form in which the most records can be read. SM3 digests look like
// those of SHA-256.
func Recognize(head []byte) (Form, bool) {
	if _, ok := cutHead(head[:min(len(head), 1<<10)]); ok {
		return Form{Text: true}, true
	}
	for _, order := range []binary.ByteOrder{nil, binary.BigEndian} {
		if len(head) < HeaderSize || len(bytes.Trim(head[2:8], "\x00")) > 0 {
			break
		}
		f := Form{Kexec: true, Options: ReaderOptions{ByteOrder: order}}
		if h := getHeader(head, isBigEndian(order)); h.Version == headerVersion && h.Size >= HeaderSize {
			if n := wellFormed(head[HeaderSize:], &f.Options); n > 0 || len(head) == HeaderSize || h.Count == 0 {
				return f, true
			}
		}
	}
	var best Form
	most := 0
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, size := range digestSizes {
			opts := ReaderOptions{ByteOrder: order, DigestSize: size}
			if n := wellFormed(head, &opts); n > most {
				best, most = Form{Options: opts}, n
			}
		}
	}
	return best, most > 0
}

// wellFormed says how much b looks like a list: two for each record at its start
// whose data has the fields of its template, less one where no record follows them.
func wellFormed(b []byte, opts *ReaderOptions) int {
	n := 0
	for rec, err := range Records(b, opts) {
		if err != nil {
			if n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				n--
			}
			break
		}
		for _, err := range rec.Fields() {
			if err != nil && !errors.Is(err, ErrTemplate) {
				return n
			}
		}
		n += 2
	}
	return n
}

// NewReader returns a reader of a list in this form.
func (f Form) NewReader(r io.Reader) RecordReader {
	switch {
	case f.Text:
		return NewTextReader(r, &f.Options)
	case f.Kexec:
		return &kexecReader{r: r, opts: f.Options}
	}
	return NewReader(r, &f.Options)
}

// Stream iterates over a list in this form that is read anew, in constant
// memory, each time it is ranged over: size bytes of r at most, all there are if
// size is negative. A record is valid until the next one is yielded.
//
// The records of a kexec buffer are those that were sent, up to the header's
// Size and Count. What a kernel makes of them, Restore tells.
func (f Form) Stream(r io.ReaderAt, size int64) iter.Seq2[Record, error] {
	if size < 0 {
		size = 1<<63 - 1
	}
	return func(yield func(Record, error) bool) {
		list := f.NewReader(io.NewSectionReader(r, 0, size))
		for {
			rec, err := list.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(*rec, nil) {
				return
			}
		}
	}
}

// Stream is Form.Stream for a list in binary form. Use it to Verify a file that
// is too large to be read into memory.
func Stream(r io.ReaderAt, size int64, opts *ReaderOptions) iter.Seq2[Record, error] {
	var f Form
	if opts != nil {
		f.Options = *opts
	}
	return f.Stream(r, size)
}

// A kexecReader reads the records of a kexec buffer as they were sent.
type kexecReader struct {
	r    io.Reader
	opts ReaderOptions
	list *Reader
	left uint64 // records, by the header
	err  error
}

func (k *kexecReader) Next() (*Record, error) {
	if k.err == nil && k.list == nil {
		k.err = k.begin()
	}
	if k.err != nil {
		return nil, k.err
	}
	if k.left == 0 {
		return nil, io.EOF
	}
	rec, err := k.list.Next()
	if err == io.EOF { // at the end of a record, and the header counts more
		err = &RecordError{k.list.Offset(), k.list.Count(), io.ErrUnexpectedEOF}
	}
	if err != nil {
		k.err = err
		return nil, err
	}
	k.left--
	return rec, nil
}

func (k *kexecReader) begin() error {
	var head [HeaderSize]byte
	if _, err := io.ReadFull(k.r, head[:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return &RestoreError{Err: err}
	}
	h := getHeader(head[:], isBigEndian(k.opts.ByteOrder))
	switch {
	case h.Version != headerVersion:
		return &RestoreError{Err: ErrVersion}
	case h.Size < HeaderSize || h.Size > 1<<63-1:
		return &RestoreError{Err: ErrSize}
	}
	k.left = h.Count
	k.list = NewReader(io.LimitReader(k.r, int64(h.Size-HeaderSize)), &k.opts)
	return nil
}
