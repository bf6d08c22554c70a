package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

// A printer shows records.
type printer interface {
	record(e *entry) error
	end(s *summary) error
}

// A summary is what there is to say of a list when all of it was read.
type summary struct {
	records, shown, boots, violations, wrong int

	bytes   int64  // in binary form
	form    string // as it was read
	digests string // name of the bank of the template digests
}

func (s *summary) String() string {
	words := []string{count(s.records, "record"), count(s.boots, "boot"), count(uint64(s.bytes), "byte")}
	if s.violations > 0 {
		words = append(words, count(s.violations, "violation"))
	}
	if s.wrong > 0 {
		words = append(words, count(s.wrong, "WRONG template digest"))
	}
	if s.shown != s.records {
		words = append(words, fmt.Sprintf("%d shown", s.shown))
	}
	text := strings.Join(words, ", ") + "; " + s.form
	if s.digests != "" {
		text += ", " + s.digests + " digests"
	}
	return text
}

// outputs are what -o can be.
var outputs = []string{"table", "ascii", "json", "binary"}

func newPrinter(output string, w io.Writer, wide bool) printer {
	switch output {
	case "ascii":
		return &raw{w: w, append: (*imalog.Record).AppendText}
	case "json":
		return newLines(w)
	case "binary":
		return &raw{w: w, append: (*imalog.Record).AppendBinary}
	}
	return newTable(w, wide)
}

// raw shows records as the kernel does.
type raw struct {
	w      io.Writer
	append func(*imalog.Record, []byte) ([]byte, error)
	b      []byte
}

// errUnwritable is in the error for a record that the kernel could not show, after
// which the others can be shown all the same.
var errUnwritable = errors.New("cannot be written in this form")

func (r *raw) record(e *entry) error {
	b, err := r.append(e.Record, r.b[:0])
	if err != nil {
		return fmt.Errorf("record %d at offset %d %w: %w", e.Index, e.Offset, errUnwritable, err)
	}
	r.b = b
	_, err = r.w.Write(b)
	return err
}

func (r *raw) end(*summary) error { return nil }
