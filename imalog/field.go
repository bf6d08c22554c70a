package imalog

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// A Field is one field of a record's template data. It has four words, which is
// what Go passes in registers: a larger one takes a third off the speed of a walk.
type Field struct {
	Data []byte // without its length; aliases the record's
	typ  *fieldType
}

// NewField returns a field of an identifier, such as "d-ng", and its data without
// the length. The order is that of the record, for the integers in the field: nil
// is little-endian.
func NewField(id string, data []byte, order binary.ByteOrder) Field {
	big := isBigEndian(order)
	if i := fieldOf(id); i != fieldUnknown {
		return Field{data, &typesOf(big)[i]}
	}
	return Field{data, &fieldType{id: id, order: big}}
}

// ID returns the field's identifier, such as "d-ng".
func (f Field) ID() string {
	if f.typ == nil {
		return ""
	}
	return f.typ.id
}

// Kind returns how the field's bytes are to be read.
func (f Field) Kind() Kind {
	if f.typ == nil {
		return KindUnknown
	}
	return f.typ.kind
}

// String returns the field for people: its identifier and what the kernel shows of it.
func (f Field) String() string { return f.ID() + "=" + string(f.appendText(nil)) }

// order returns the byte order of the integers in the field.
func (f Field) order() byteOrder { return f.typ != nil && f.typ.order }

// Fields iterates over the fields of the template data. Where the data does not
// fit the template, the fields before are yielded and then an error: a
// *FieldError that unwraps to ErrFields, or ErrTemplate for a template that no
// kernel has.
func (r *Record) Fields() iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) { r.fields(yield) }
}

func (r *Record) fields(yield func(Field, error) bool) {
	var room [maxFields]fieldIndex
	fields, ok := fieldsOf(r.Template, room[:0])
	if !ok {
		yield(Field{}, ErrTemplate)
		return
	}
	data, types := r.Data, typesOf(byteOrder(r.BigEndian))
	var typ *fieldType
	for _, i := range fields {
		typ = &types[i]
		size := uint64(20)
		if i != fieldDIMA {
			if len(data) < 4 {
				yield(Field{}, malformed(typ.id))
				return
			}
			size = uint64(typ.order.uint32(data))
			data = data[4:]
		}
		if size > uint64(len(data)) {
			yield(Field{}, malformed(typ.id))
			return
		}
		if !yield(Field{data[:size:size], typ}, nil) {
			return
		}
		data = data[size:]
	}
	if len(data) != 0 {
		yield(Field{}, malformed(typ.id))
	}
}

// Field returns the first field of an identifier.
func (r *Record) Field(id string) (Field, bool) {
	for f, err := range r.Fields() {
		if err == nil && f.typ.id == id {
			return f, true
		}
	}
	return Field{}, false
}

// Text returns the string in a field n or n-ng. It ends with a NUL, which is left
// out, but in template "ima". The kernel has replaced spaces in it by underscores
// and nothing else: it can hold line feeds and any other byte. It aliases the
// field.
func (f Field) Text() ([]byte, error) {
	if f.Kind() == KindText {
		end := bytes.IndexByte(f.Data, 0)
		if end >= 0 && end == len(f.Data)-1 {
			return f.Data[:end], nil
		}
		if end < 0 && f.typ.id == "n" {
			return f.Data, nil
		}
	}
	return nil, malformed(f.ID())
}

// Uint returns the integer in a field iuid, igid or imode, of 1, 2, 4 or 8
// bytes; 0 for one that is empty, as it is where there was no file.
func (f Field) Uint() (uint64, error) {
	if f.Kind() != KindUint {
		return 0, malformed(f.ID())
	}
	if len(f.Data) == 0 {
		return 0, nil
	}
	v, ok := f.uint()
	if !ok {
		return 0, malformed(f.ID())
	}
	return v, nil
}

func (f Field) uint() (uint64, bool) {
	order := f.order()
	switch len(f.Data) {
	case 1:
		return uint64(f.Data[0]), true
	case 2:
		return uint64(order.uint16(f.Data)), true
	case 4:
		return uint64(order.uint32(f.Data)), true
	case 8:
		return order.uint64(f.Data), true
	}
	return 0, false
}

// Names returns the names of the extended attributes in a field xattrnames,
// which are separated by bars and end with a NUL.
func (f Field) Names() ([]string, error) {
	if f.Kind() != KindNames {
		return nil, malformed(f.ID())
	}
	if len(f.Data) == 0 {
		return nil, nil
	}
	text, ended := bytes.CutSuffix(f.Data, []byte{0})
	if !ended || bytes.IndexByte(text, 0) >= 0 {
		return nil, malformed(f.ID())
	}
	if len(text) == 0 {
		return nil, nil
	}
	names := make([]string, 0, bytes.Count(text, []byte{'|'})+1)
	for name := range bytes.SplitSeq(text, []byte{'|'}) {
		names = append(names, string(name))
	}
	return names, nil
}

// Lengths returns the lengths in bytes of the extended attributes in a field
// xattrlengths: 32-bit integers.
func (f Field) Lengths() ([]uint32, error) {
	if f.Kind() != KindLengths || len(f.Data)%4 != 0 {
		return nil, malformed(f.ID())
	}
	lengths := make([]uint32, 0, len(f.Data)/4)
	for b := f.Data; len(b) > 0; b = b[4:] {
		lengths = append(lengths, f.order().uint32(b))
	}
	return lengths, nil
}

// malformed is the error of a field whose data is not what its identifier says.
func malformed(id string) error { return &FieldError{id, ErrFields} }

// An Xattr is an extended attribute of a measured file.
type Xattr struct {
	Name  string
	Value []byte // aliases the record
}

// Xattrs returns the extended attributes that the fields xattrnames,
// xattrlengths and xattrvalues of a record describe; none if it lacks them. The
// error unwraps to ErrFields when the three do not fit together.
func (r *Record) Xattrs() ([]Xattr, error) {
	f, ok := r.Field("xattrnames")
	if !ok {
		return nil, nil
	}
	names, err := f.Names()
	if err != nil {
		return nil, err
	}
	f, _ = r.Field("xattrlengths")
	lengths, err := f.Lengths()
	if err != nil {
		return nil, err
	}
	f, _ = r.Field("xattrvalues")
	if len(names) != len(lengths) {
		return nil, malformed(f.ID())
	}
	all := make([]Xattr, 0, len(names))
	for i, name := range names {
		if uint64(lengths[i]) > uint64(len(f.Data)) {
			return nil, malformed(f.ID())
		}
		all = append(all, Xattr{name, f.Data[:lengths[i]:lengths[i]]})
		f.Data = f.Data[lengths[i]:]
	}
	if len(f.Data) != 0 {
		return nil, malformed(f.ID())
	}
	return all, nil
}
