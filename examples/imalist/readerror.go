package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/imakexec/imakexec/imalog"
)

// A readError tells in which file, and where in it, something cannot be read.
type readError struct {
	name  string
	where string // "record 3 at offset 412", or ""
	err   error
}

func (e *readError) Error() string {
	if e.where == "" {
		return fmt.Sprintf("%s: %s", e.name, message(e.err))
	}
	return fmt.Sprintf("%s: %s: %s", e.name, e.where, message(e.err))
}

func (e *readError) Unwrap() error { return e.err }

// located says of an error of imalog in which file it is: so many records of the
// list and bytes of the file are before what imalog has read of it.
func located(name string, err error, records int, offset int64) error {
	var at *imalog.RecordError
	if !errors.As(err, &at) {
		return &readError{name: name, err: err}
	}
	where := fmt.Sprintf("record %d at offset %d", records+at.Record, offset+at.Offset)
	return &readError{name, where, explain(at.Err)}
}

// explain says in other words why a record cannot be read.
func explain(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &explainedError{"the list ends within this record", err}
	case errors.Is(err, imalog.ErrFormat):
		return &explainedError{err.Error() + "; the damage may be in the record before", err}
	}
	return err
}

type explainedError struct {
	text string
	err  error
}

func (e *explainedError) Error() string { return e.text }
func (e *explainedError) Unwrap() error { return e.err }
