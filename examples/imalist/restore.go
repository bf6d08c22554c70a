package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/imakexec/imakexec/imalog"
)

// A restored is what a kernel makes of a kexec buffer.
type restored struct {
	name    string
	header  imalog.Header
	records []imalog.Record
	err     error // why it gave up
}

// restore restores a kexec buffer as a kernel does.
func (in *input) restore() (*restored, error) {
	if len(in.parts) != 1 {
		return nil, usagef("-restore takes one file, a kexec buffer")
	}
	p := &in.parts[0]
	if p.size < imalog.HeaderSize {
		return nil, &readError{name: p.name, err: fmt.Errorf("has %s; a kexec buffer begins with a header of %d",
			count(uint64(p.size), "byte"), imalog.HeaderSize)}
	}
	b := make([]byte, p.size)
	if _, err := p.data.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, &readError{name: p.name, err: err}
	}
	r := &restored{name: p.name}
	r.records, r.header, r.err = imalog.Restore(b)
	return r, nil
}

// whole reports whether a kernel would have all that the header counts.
func (r *restored) whole() bool {
	return r.err == nil && uint64(len(r.records)) == r.header.Count
}

func (r *restored) list() sequence {
	return func(yield func(imalog.Record, error) bool) {
		for _, rec := range r.records {
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// reason says why not all was restored.
func (r *restored) reason() string {
	s := fmt.Sprintf("%s: a kernel restores %d of %s", r.name, len(r.records), count(r.header.Count, "record"))
	var at *imalog.RestoreError
	switch {
	case errors.As(r.err, &at):
		s += fmt.Sprintf(" and gives up at offset %d: %v", at.Offset, at.Err)
		if at.Silent {
			s += ", which it does not call a failure"
		}
	case r.err != nil:
		s += ": " + message(r.err)
	default:
		s += " and says nothing: the buffer ends there"
	}
	return s
}

func (r *restored) describe() string {
	return fmt.Sprintf("restored from a kexec buffer of %s in %s",
		count(r.header.Count, "record"), count(r.header.Size, "byte"))
}
