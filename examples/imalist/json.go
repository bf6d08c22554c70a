package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// jsonRecord is a record as a line of JSON. Bytes are in hexadecimal; a name that
// is not UTF-8 has replacement characters, and its bytes are in the field's Data.
type jsonRecord struct {
	Record    int             `json:"record"` // records before it
	Offset    int64           `json:"offset"` // bytes before it, in binary form
	Boot      int             `json:"boot"`   // from 1
	PCR       uint32          `json:"pcr"`
	Template  string          `json:"template"`
	Digest    hexBytes        `json:"digest"`
	Violation bool            `json:"violation,omitempty"`
	Wrong     bool            `json:"wrong_digest,omitempty"`
	Name      *string         `json:"name,omitempty"`
	Fields    []jsonField     `json:"fields"`
	Event     *events.Figures `json:"event,omitempty"` // of kexec_load and kexec_execute
	Error     string          `json:"error,omitempty"` // why there are no more fields
	Data      hexBytes        `json:"data,omitempty"`  // all of them, where they cannot be decoded
}

// jsonField is a field of a record. Which members it has depends on the field;
// Data is there where no other has the bytes.
type jsonField struct {
	ID        string         `json:"id"`
	Type      string         `json:"type,omitempty"`   // of the digest in d-ngv2: ima or verity
	Alg       string         `json:"alg,omitempty"`    // of a digest
	Digest    hexBytes       `json:"digest,omitempty"` // of what was measured
	Text      *string        `json:"text,omitempty"`
	Signature *jsonSignature `json:"signature,omitempty"`
	Names     []string       `json:"names,omitempty"`   // of extended attributes
	Lengths   []uint32       `json:"lengths,omitempty"` // of extended attributes, bytes
	Xattrs    []jsonXattr    `json:"xattrs,omitempty"`
	Number    *uint64        `json:"number,omitempty"`
	Data      hexBytes       `json:"data,omitempty"`
	Error     string         `json:"error,omitempty"` // why the bytes are not decoded
}

type jsonSignature struct {
	Type    string   `json:"type"` // ima, evm or verity
	Version uint8    `json:"version"`
	Hash    string   `json:"hash"`
	KeyID   hexBytes `json:"key"`
	Sig     hexBytes `json:"sig"`
}

type jsonXattr struct {
	Name      string         `json:"name"`
	Value     hexBytes       `json:"value,omitempty"`
	Signature *jsonSignature `json:"signature,omitempty"` // instead of the value
}

type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// A text is a string; one that is not UTF-8 loses bytes, and Data has them all.
func (j *jsonField) text(b []byte) {
	s := string(b)
	j.Text = &s
	if !utf8.ValidString(s) {
		j.Data = b
	}
}

// lines shows a record as a line of JSON.
type lines struct{ e *json.Encoder }

func newLines(w io.Writer) *lines {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &lines{e}
}

func (l *lines) record(e *entry) error {
	j := jsonRecord{Record: e.Index, Offset: e.Offset, Boot: e.Boot.Number, PCR: e.PCR, Template: e.Template,
		Digest: e.Digest, Violation: e.Violation(), Wrong: e.Wrong, Fields: []jsonField{}, Event: e.Figures}
	for f, err := range e.Fields() {
		if err != nil {
			j.Error, j.Data = err.Error(), e.Data
			break
		}
		if f.Kind() == imalog.KindText && j.Name == nil {
			name := e.Name()
			j.Name = &name
		}
		j.Fields = append(j.Fields, decode(e.Record, f))
	}
	return l.e.Encode(&j)
}

func (l *lines) end(*summary) error { return nil }

// decode decodes a field of a record.
func decode(rec *imalog.Record, f imalog.Field) jsonField {
	j := jsonField{ID: f.ID()}
	if len(f.Data) == 0 {
		return j // there was nothing to measure
	}
	var err error
	switch f.Kind() {
	case imalog.KindDigest:
		var d imalog.FileDigest
		if d, err = f.FileDigest(); err == nil {
			j.Type, j.Alg, j.Digest = d.Type(), d.Alg(), d.Sum
		}
	case imalog.KindText:
		var b []byte
		if b, err = f.Text(); err == nil {
			j.text(b)
		}
	case imalog.KindSignature:
		var s imalog.Signature
		if s, err = f.Signature(); err == nil {
			j.Signature = jsonSig(s)
		}
	case imalog.KindNames:
		j.Names, err = f.Names()
	case imalog.KindLengths:
		j.Lengths, err = f.Lengths()
	case imalog.KindValues:
		var all []imalog.Xattr
		if all, err = rec.Xattrs(); err == nil {
			for _, x := range all {
				j.Xattrs = append(j.Xattrs, xattr(x))
			}
		}
	case imalog.KindUint:
		var v uint64
		if v, err = f.Uint(); err == nil {
			j.Number = &v
		}
	case imalog.KindBytes:
		if f.ID() == "buf" && printable(string(f.Data)) {
			j.text(f.Data)
		} else {
			j.Data = f.Data
		}
	default:
		j.Data = f.Data
	}
	if err != nil {
		j.Data, j.Error = f.Data, err.Error()
		if errors.Is(err, imalog.ErrFields) && f.Kind() == imalog.KindSignature {
			j.Error = "no signature of version 2 or 3"
		}
	}
	return j
}

func xattr(x imalog.Xattr) jsonXattr {
	if s, ok := imalog.ParseSignature(x.Value); ok {
		return jsonXattr{Name: x.Name, Signature: jsonSig(s)}
	}
	return jsonXattr{Name: x.Name, Value: x.Value}
}

func jsonSig(s imalog.Signature) *jsonSignature {
	return &jsonSignature{Type: s.Type.String(), Version: s.Version, Hash: imalog.HashName(s.HashAlg),
		KeyID: hexBytes{byte(s.KeyID >> 24), byte(s.KeyID >> 16), byte(s.KeyID >> 8), byte(s.KeyID)}, Sig: s.Sig}
}
