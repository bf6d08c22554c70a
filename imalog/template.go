package imalog

import (
	"iter"
	"strings"
)

// templateIMA is the oldest template: no length before its data, and none
// before the digest in it.
const templateIMA = "ima"

// maxTemplate is the longest template name that a kernel can list: 15 field
// identifiers of 16 characters with bars between them
// (security/integrity/ima/ima_template.c: template_desc_init_fields).
const maxTemplate = 15*16 + 14

const (
	maxFields  = 15
	maxFieldID = 16
)

// templateFormat returns the fields of a template, separated by bars: the format of a
// named template (security/integrity/ima/ima_template.c: builtin_templates), and
// the name itself of one made by ima_template_fmt=.
func templateFormat(template string) string {
	switch template {
	case "ima-ng":
		return "d-ng|n-ng"
	case "ima-sig":
		return "d-ng|n-ng|sig"
	case "ima-ngv2":
		return "d-ngv2|n-ng"
	case "ima-sigv2":
		return "d-ngv2|n-ng|sig"
	case "ima-buf":
		return "d-ng|n-ng|buf"
	case "ima-modsig":
		return "d-ng|n-ng|sig|d-modsig|modsig"
	case "evm-sig":
		return "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"
	case templateIMA:
		return "d|n"
	}
	return template
}

// namedTemplate returns the name under which a kernel lists a template: a field
// format that is a named template's too gets that name
// (security/integrity/ima/ima_template.c: lookup_template_desc).
func namedTemplate(template string) string {
	switch template {
	case "d-ng|n-ng":
		return "ima-ng"
	case "d-ng|n-ng|sig":
		return "ima-sig"
	case "d-ngv2|n-ng":
		return "ima-ngv2"
	case "d-ngv2|n-ng|sig":
		return "ima-sigv2"
	case "d-ng|n-ng|buf":
		return "ima-buf"
	case "d-ng|n-ng|sig|d-modsig|modsig":
		return "ima-modsig"
	case "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode":
		return "evm-sig"
	case "d|n":
		return templateIMA
	}
	return template
}

// kind is how a field's bytes are to be read
// (security/integrity/ima/ima_template.c: supported_fields).
type kind uint8

const (
	kindUnknown kind = iota
	kindDigest       // the digest alone
	kindTagged       // "algorithm:" NUL digest, or "type:algorithm:" NUL digest
	kindString       // with its NUL
	kindHex          // bytes
	kindUint         // an integer of 1, 2, 4 or 8 bytes
)

func kindOf(id string) kind {
	switch id {
	case "d":
		return kindDigest
	case "d-ng", "d-ngv2", "d-modsig":
		return kindTagged
	case "n", "n-ng", "xattrnames":
		return kindString
	case "sig", "buf", "modsig", "evmsig", "xattrlengths", "xattrvalues":
		return kindHex
	case "iuid", "igid", "imode":
		return kindUint
	}
	return kindUnknown
}

// knownTemplate reports whether a kernel can have the template: it is named, or
// a format of at most 15 known fields.
func knownTemplate(template string) bool {
	rest, n := templateFormat(template), 0
	for more := true; more; n++ {
		var id string
		id, rest, more = strings.Cut(rest, "|")
		if kindOf(id) == kindUnknown {
			return false
		}
	}
	return n <= maxFields
}

// A Field is one field of a record's template data. Data aliases the record's.
type Field struct {
	ID   string // identifier, such as "d-ng"
	Data []byte // without its length
}

// Fields iterates over the fields of the template data. Where the data does not
// fit the template, the fields before are yielded and then an error that unwraps
// to ErrFields or, for a template that no kernel has, ErrTemplate.
func (r *Record) Fields() iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) {
		c := cursor{rec: r, format: templateFormat(r.Template), data: r.Data}
		for c.next() {
			if !yield(c.field, nil) {
				return
			}
		}
		if c.err != nil {
			yield(Field{}, c.err)
		}
	}
}

// Field returns the first field of an identifier.
func (r *Record) Field(id string) (Field, bool) {
	c := cursor{rec: r, format: templateFormat(r.Template), data: r.Data}
	for c.next() {
		if c.field.ID == id {
			return c.field, true
		}
	}
	return Field{}, false
}

// A cursor walks over the fields of template data.
type cursor struct {
	rec    *Record
	format string // what is left of it
	data   []byte // what is left of it
	field  Field
	err    error
	n      int
}

func (c *cursor) next() bool {
	if c.format == "" {
		if c.n == 0 {
			c.err = ErrTemplate
		} else if len(c.data) != 0 {
			c.err = &FieldError{c.field.ID, ErrFields}
		}
		return false
	}
	i := strings.IndexByte(c.format, '|')
	if i < 0 {
		c.field.ID, c.format = c.format, ""
	} else {
		c.field.ID, c.format = c.format[:i], c.format[i+1:]
		if c.format == "" { // a bar at the end
			c.err = ErrTemplate
			return false
		}
	}
	if c.n++; c.n > maxFields {
		c.err = ErrTemplate
		return false
	}
	var size uint64
	if c.field.ID == "d" && c.rec.Template == templateIMA {
		size = 20
	} else {
		if len(c.data) < 4 {
			return c.fail()
		}
		size = uint64(c.rec.uint32(c.data))
		c.data = c.data[4:]
	}
	if size > uint64(len(c.data)) {
		return c.fail()
	}
	c.field.Data, c.data = c.data[:size:size], c.data[size:]
	return true
}

// fail ends the walk: data too short for a known template, or a template that
// is not known at all.
func (c *cursor) fail() bool {
	if knownTemplate(c.rec.Template) {
		c.err = &FieldError{c.field.ID, ErrFields}
	} else {
		c.err = ErrTemplate
	}
	return false
}
