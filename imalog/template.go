package imalog

import (
	"iter"
	"strings"
)

// templateIMA is the oldest template: no length before its data, and none
// before the digest in it.
const templateIMA = "ima"

// The kernel's limits of a template (security/integrity/ima/ima.h).
const (
	maxFields   = 15 // IMA_TEMPLATE_NUM_FIELDS_MAX
	maxFieldID  = 16 // IMA_TEMPLATE_FIELD_ID_MAX_LEN
	maxTemplate = maxFields*maxFieldID + maxFields - 1
)

// A template has a name of its own (security/integrity/ima/ima_template.c:
// builtin_templates). Others are listed under their format.
type template struct {
	name   string
	format string
	fields []fieldType
}

type fieldType struct {
	id   string
	kind Kind
}

var templates = [...]template{
	{"ima-ng", "d-ng|n-ng", []fieldType{dNG, nNG}},
	{"ima-sig", "d-ng|n-ng|sig", []fieldType{dNG, nNG, sig}},
	{"ima-ngv2", "d-ngv2|n-ng", []fieldType{dNGv2, nNG}},
	{"ima-sigv2", "d-ngv2|n-ng|sig", []fieldType{dNGv2, nNG, sig}},
	{"ima-buf", "d-ng|n-ng|buf", []fieldType{dNG, nNG, {"buf", KindBytes}}},
	{"ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig",
		[]fieldType{dNG, nNG, sig, {"d-modsig", KindDigest}, {"modsig", KindBytes}}},
	{"evm-sig", "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
		[]fieldType{dNG, nNG, {"evmsig", KindSignature}, {"xattrnames", KindNames}, {"xattrlengths", KindLengths},
			{"xattrvalues", KindValues}, {"iuid", KindUint}, {"igid", KindUint}, {"imode", KindUint}}},
	{templateIMA, "d|n", []fieldType{{"d", KindDigest}, {"n", KindText}}},
}

var (
	dNG   = fieldType{"d-ng", KindDigest}
	dNGv2 = fieldType{"d-ngv2", KindDigest}
	nNG   = fieldType{"n-ng", KindText}
	sig   = fieldType{"sig", KindSignature}
)

// named returns the template of a name, nil for a format.
func named(name string) *template {
	for i := range templates {
		if templates[i].name == name {
			return &templates[i]
		}
	}
	return nil
}

// listedAs returns the name under which a kernel lists a template: a format that
// is a named template's gets that name
// (security/integrity/ima/ima_template.c: lookup_template_desc).
func listedAs(name string) string {
	for i := range templates {
		if templates[i].format == name {
			return templates[i].name
		}
	}
	return name
}

// Kind is how the bytes of a field are to be read
// (security/integrity/ima/ima_template.c: supported_fields).
type Kind uint8

const (
	KindUnknown   Kind = iota
	KindDigest         // d, d-ng, d-ngv2, d-modsig: Field.FileDigest
	KindText           // n, n-ng: Field.Text
	KindBytes          // buf, modsig: Data itself
	KindSignature      // sig, evmsig: Field.Signature
	KindNames          // xattrnames: Field.Names
	KindLengths        // xattrlengths: Field.Lengths
	KindValues         // xattrvalues: one after the other, see Record.Xattrs
	KindUint           // iuid, igid, imode: Field.Uint
)

func kindOf(id string) Kind {
	switch id {
	case "d", "d-ng", "d-ngv2", "d-modsig":
		return KindDigest
	case "n", "n-ng":
		return KindText
	case "buf", "modsig":
		return KindBytes
	case "sig", "evmsig":
		return KindSignature
	case "xattrnames":
		return KindNames
	case "xattrlengths":
		return KindLengths
	case "xattrvalues":
		return KindValues
	case "iuid", "igid", "imode":
		return KindUint
	}
	return KindUnknown
}

// knownTemplate reports whether a kernel can have the template: it is named, or
// a format of at most 15 known fields.
func knownTemplate(name string) bool {
	if named(name) != nil {
		return true
	}
	n := 0
	for more := true; more; n++ {
		var id string
		id, name, more = strings.Cut(name, "|")
		if kindOf(id) == KindUnknown {
			return false
		}
	}
	return n <= maxFields
}

// appendTypes appends the types of a known template's fields.
func appendTypes(types []fieldType, name string) []fieldType {
	if t := named(name); t != nil {
		return append(types, t.fields...)
	}
	for id := range strings.SplitSeq(name, "|") {
		types = append(types, fieldType{id, kindOf(id)})
	}
	return types
}

// A Field is one field of a record's template data.
type Field struct {
	ID   string // identifier, such as "d-ng"
	Data []byte // without its length; aliases the record's
	// BigEndian is that of the record, for the integers in the field.
	BigEndian bool
	kind      Kind // of ID, if not KindUnknown
}

// Kind returns how the field's bytes are to be read.
func (f *Field) Kind() Kind {
	if f.kind != KindUnknown {
		return f.kind
	}
	return kindOf(f.ID)
}

// Fields iterates over the fields of the template data. Where the data does not
// fit the template, the fields before are yielded and then an error: a
// *FieldError that unwraps to ErrFields, or ErrTemplate for a template that no
// kernel has.
func (r *Record) Fields() iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) { r.fields(yield) }
}

func (r *Record) fields(yield func(Field, error) bool) {
	t := named(r.Template)
	if t == nil {
		r.otherFields(yield)
		return
	}
	data, order := r.Data, byteOrder(r.BigEndian)
	f := Field{BigEndian: r.BigEndian}
	for i := range t.fields {
		f.ID, f.kind = t.fields[i].id, t.fields[i].kind
		size := uint64(20)
		// The digest of template "ima" has no length; format "d|n" has one.
		if f.ID != "d" {
			if len(data) < 4 {
				yield(Field{}, malformed(f.ID))
				return
			}
			size = uint64(order.uint32(data))
			data = data[4:]
		}
		if size > uint64(len(data)) {
			yield(Field{}, malformed(f.ID))
			return
		}
		f.Data, data = data[:size:size], data[size:]
		if !yield(f, nil) {
			return
		}
	}
	if len(data) != 0 {
		yield(Field{}, malformed(f.ID))
	}
}

func (r *Record) otherFields(yield func(Field, error) bool) {
	c := newCursor(r)
	for c.next() {
		if !yield(c.field, nil) {
			return
		}
	}
	if c.err != nil {
		yield(Field{}, c.err)
	}
}

// Field returns the first field of an identifier.
func (r *Record) Field(id string) (Field, bool) {
	c := newCursor(r)
	for c.next() {
		if c.field.ID == id {
			return c.field, true
		}
	}
	return Field{}, false
}

// A cursor walks over the fields of template data.
type cursor struct {
	types  []fieldType // what is left of a named template's
	format string      // what is left of a format
	data   []byte      // what is left of the data
	field  Field
	err    error
}

func newCursor(r *Record) cursor {
	c := cursor{data: r.Data, field: Field{BigEndian: r.BigEndian}}
	if t := named(r.Template); t != nil {
		c.types = t.fields
	} else if knownTemplate(r.Template) {
		c.format = r.Template
	} else {
		c.err = ErrTemplate
	}
	return c
}

func (c *cursor) next() bool {
	counted := true
	switch {
	case len(c.types) > 0:
		c.field.ID, c.field.kind = c.types[0].id, c.types[0].kind
		c.types = c.types[1:]
		// The digest of template "ima" has no length; format "d|n" has one.
		counted = c.field.ID != "d"
	case c.format != "":
		c.field.ID, c.format, _ = strings.Cut(c.format, "|")
		c.field.kind = kindOf(c.field.ID)
	default:
		if len(c.data) != 0 && c.err == nil {
			c.err = malformed(c.field.ID)
		}
		return false
	}
	size := uint64(20)
	if counted {
		if len(c.data) < 4 {
			return c.fail()
		}
		size = uint64(byteOrder(c.field.BigEndian).uint32(c.data))
		c.data = c.data[4:]
	}
	if size > uint64(len(c.data)) {
		return c.fail()
	}
	c.field.Data, c.data = c.data[:size:size], c.data[size:]
	return true
}

// fail ends the walk: the data is too short.
func (c *cursor) fail() bool {
	c.err = malformed(c.field.ID)
	c.types, c.format, c.data = nil, "", nil
	return false
}
