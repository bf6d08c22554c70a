package imalog

import (
	"errors"
	"strconv"
)

// What is wrong with an input. Every error of this package that names a place
// in a list is a *RecordError around one of them.
var (
	ErrFormat   = errors.New("not a record of an IMA measurement list")
	ErrTooLarge = errors.New("record is larger than the limit")
	ErrTemplate = errors.New("unknown template")
	ErrFields   = errors.New("template data does not have the fields of its template")
	ErrDigest   = errors.New("template digest does not match the template data")
	ErrAlg      = errors.New("hash algorithm is not available")
)

// A RecordError tells where in a list or a buffer something is wrong.
type RecordError struct {
	Offset int64 // bytes before the record
	Record int   // records before it
	Err    error
}

func (e *RecordError) Error() string {
	return "imalog: record " + strconv.Itoa(e.Record) + " at offset " + strconv.FormatInt(e.Offset, 10) + ": " + e.Err.Error()
}

func (e *RecordError) Unwrap() error { return e.Err }

// A FieldError tells which field of a record's template data is wrong.
type FieldError struct {
	Field string // identifier of the field, such as "d-ng"
	Err   error
}

func (e *FieldError) Error() string { return "field " + e.Field + ": " + e.Err.Error() }

func (e *FieldError) Unwrap() error { return e.Err }
