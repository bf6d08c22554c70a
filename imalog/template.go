package imalog

import "strings"

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
	fields []fieldIndex
}

var templates = [...]template{
	{"ima-ng", "d-ng|n-ng", []fieldIndex{fieldDNG, fieldNNG}},
	{"ima-sig", "d-ng|n-ng|sig", []fieldIndex{fieldDNG, fieldNNG, fieldSig}},
	{"ima-ngv2", "d-ngv2|n-ng", []fieldIndex{fieldDNGv2, fieldNNG}},
	{"ima-sigv2", "d-ngv2|n-ng|sig", []fieldIndex{fieldDNGv2, fieldNNG, fieldSig}},
	{"ima-buf", "d-ng|n-ng|buf", []fieldIndex{fieldDNG, fieldNNG, fieldBuf}},
	{"ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig",
		[]fieldIndex{fieldDNG, fieldNNG, fieldSig, fieldDModsig, fieldModsig}},
	{"evm-sig", "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
		[]fieldIndex{fieldDNG, fieldNNG, fieldEVMSig, fieldXattrNames, fieldXattrLengths,
			fieldXattrValues, fieldIUID, fieldIGID, fieldIMode}},
	{templateIMA, "d|n", []fieldIndex{fieldDIMA, fieldN}},
}

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

// A fieldType is what the identifier of a field says, and the byte order of the
// record that it is in.
type fieldType struct {
	id    string
	kind  Kind
	order byteOrder
}

// A fieldIndex is the place of a field in fieldTypes.
type fieldIndex uint8

const (
	fieldUnknown fieldIndex = iota
	fieldD
	fieldDNG
	fieldDNGv2
	fieldN
	fieldNNG
	fieldSig
	fieldBuf
	fieldDModsig
	fieldModsig
	fieldEVMSig
	fieldXattrNames
	fieldXattrLengths
	fieldXattrValues
	fieldIUID
	fieldIGID
	fieldIMode
	fieldDIMA // d in template "ima": 20 bytes, and no length before them
	fieldCount
)

var fieldTypes = [fieldCount]fieldType{
	fieldD:            {id: "d", kind: KindDigest},
	fieldDNG:          {id: "d-ng", kind: KindDigest},
	fieldDNGv2:        {id: "d-ngv2", kind: KindDigest},
	fieldN:            {id: "n", kind: KindText},
	fieldNNG:          {id: "n-ng", kind: KindText},
	fieldSig:          {id: "sig", kind: KindSignature},
	fieldBuf:          {id: "buf", kind: KindBytes},
	fieldDModsig:      {id: "d-modsig", kind: KindDigest},
	fieldModsig:       {id: "modsig", kind: KindBytes},
	fieldEVMSig:       {id: "evmsig", kind: KindSignature},
	fieldXattrNames:   {id: "xattrnames", kind: KindNames},
	fieldXattrLengths: {id: "xattrlengths", kind: KindLengths},
	fieldXattrValues:  {id: "xattrvalues", kind: KindValues},
	fieldIUID:         {id: "iuid", kind: KindUint},
	fieldIGID:         {id: "igid", kind: KindUint},
	fieldIMode:        {id: "imode", kind: KindUint},
	fieldDIMA:         {id: "d", kind: KindDigest},
}

// bigEndianTypes are the same for records of a big-endian kernel.
var bigEndianTypes = func() [fieldCount]fieldType {
	types := fieldTypes
	for i := range types {
		types[i].order = true
	}
	return types
}()

// typesOf returns the table for records of a byte order.
func typesOf(order byteOrder) *[fieldCount]fieldType {
	if order {
		return &bigEndianTypes
	}
	return &fieldTypes
}

// fieldOf returns the field of an identifier, fieldUnknown if no kernel has it.
func fieldOf(id string) fieldIndex {
	for i := fieldD; i <= fieldIMode; i++ {
		if fieldTypes[i].id == id {
			return i
		}
	}
	return fieldUnknown
}

// fieldsOf returns the fields of a template that a kernel can have: it is named, or
// a format of at most 15 known fields, which are appended to room.
func fieldsOf(name string, room []fieldIndex) (fields []fieldIndex, ok bool) {
	if t := named(name); t != nil {
		return t.fields, true
	}
	for id := range strings.SplitSeq(name, "|") {
		i := fieldOf(id)
		if i == fieldUnknown || len(room) == maxFields {
			return nil, false
		}
		room = append(room, i)
	}
	return room, true
}
