package imalog

import "bytes"

// A FileDigest is the digest of what was measured, as the fields d, d-ng, d-ngv2
// and d-modsig have it. Four words, like a Field.
type FileDigest struct {
	Sum []byte // aliases the field
	tag *digestTag
}

// A digestTag is what stands before a digest.
type digestTag struct{ typ, alg string }

// The tags that kernels write, by type and algorithm: nearly all digests are
// "sha256:" in d-ng.
var (
	digestTypes = [...]string{"", "ima", "verity"}
	digestTags  = func() (tags [len(digestTypes)][len(hashNames)]digestTag) {
		for i, typ := range digestTypes {
			for j, alg := range hashNames {
				tags[i][j] = digestTag{typ, alg}
			}
		}
		return tags
	}()
	tagSHA256 = &digestTags[0][4]
)

// newTag returns a tag, without allocating one that kernels write.
func newTag(typ, alg []byte) *digestTag {
	if len(typ)+len(alg) == 0 {
		return nil
	}
	for i := range digestTags {
		if digestTypes[i] != string(typ) {
			continue
		}
		for j := range digestTags[i] {
			if digestTags[i][j].alg == string(alg) {
				return &digestTags[i][j]
			}
		}
	}
	return &digestTag{string(typ), string(alg)}
}

// NewFileDigest returns a digest of a type, "" but in field d-ngv2, and an
// algorithm, "" but outside field d.
func NewFileDigest(typ, alg string, sum []byte) FileDigest {
	return FileDigest{sum, newTag([]byte(typ), []byte(alg))}
}

// Type returns "ima" or "verity" for one of d-ngv2, "" for others.
func (d FileDigest) Type() string {
	if d.tag == nil {
		return ""
	}
	return d.tag.typ
}

// Alg returns the kernel's name of the algorithm, such as "sha256"; "" for one
// of field d.
func (d FileDigest) Alg() string {
	if d.tag == nil {
		return ""
	}
	return d.tag.alg
}

// AppendText appends the digest as the kernel shows it, "sha256:" and hexadecimal
// digits, with the type before it in d-ngv2.
func (d FileDigest) AppendText(b []byte) ([]byte, error) {
	for _, word := range []string{d.Type(), d.Alg()} {
		if word != "" {
			b = append(b, word...)
			b = append(b, ':')
		}
	}
	return appendHex(b, d.Sum), nil
}

// MarshalText is AppendText, for encoding/json and others.
func (d FileDigest) MarshalText() ([]byte, error) { return d.AppendText(nil) }

func (d FileDigest) String() string {
	b, _ := d.AppendText(nil) // cannot fail
	return string(b)
}

// FileDigest decodes a digest. In d-ng and d-modsig it is "<alg>:" NUL digest,
// in d-ngv2 "<type>:<alg>:" NUL digest, in d the digest alone, of SHA-1 or MD5
// (security/integrity/ima/ima_template_lib.c: ima_eventdigest_init_common). An
// empty d-modsig is a zero FileDigest: the file had no appended signature. An error
// unwraps to ErrFields.
func (f Field) FileDigest() (FileDigest, error) {
	const usual = "sha256:\x00"
	if f.Kind() != KindDigest {
		return FileDigest{}, malformed(f.ID())
	}
	switch id := f.typ.id; {
	case id == "d":
		return FileDigest{Sum: f.Data}, nil
	case id != "d-ngv2" && len(f.Data) >= len(usual) && string(f.Data[:len(usual)]) == usual:
		return FileDigest{f.Data[len(usual):], tagSHA256}, nil
	case id == "d-modsig" && len(f.Data) == 0:
		return FileDigest{}, nil
	}
	tag, sum, found := bytes.Cut(f.Data, []byte{0})
	if !found || len(tag) == 0 || tag[len(tag)-1] != ':' {
		return FileDigest{}, malformed(f.ID())
	}
	var typ []byte
	alg := tag[:len(tag)-1]
	if f.typ.id == "d-ngv2" {
		if typ, alg, found = bytes.Cut(alg, []byte{':'}); !found || len(typ) == 0 {
			return FileDigest{}, malformed(f.ID())
		}
	}
	if bytes.IndexByte(alg, ':') >= 0 {
		return FileDigest{}, malformed(f.ID())
	}
	return FileDigest{sum, newTag(typ, alg)}, nil
}

// FileDigest returns the digest of what was measured, from the first of the fields d,
// d-ng and d-ngv2; false if there is none, or none that can be decoded. That of a
// violation is zeros.
func (r *Record) FileDigest() (FileDigest, bool) {
	for f, err := range r.Fields() {
		if err != nil {
			break
		}
		if f.Kind() == KindDigest && f.ID() != "d-modsig" {
			d, err := f.FileDigest()
			return d, err == nil
		}
	}
	return FileDigest{}, false
}

// Append appends the digest as a field of the identifier has it, without the
// field's length: the reverse of Field.FileDigest.
func (d FileDigest) Append(b []byte, id string) []byte {
	if id == "d" || id == "d-modsig" && d.tag == nil && d.Sum == nil {
		return append(b, d.Sum...)
	}
	if id == "d-ngv2" {
		b = append(b, d.Type()...)
		b = append(b, ':')
	}
	b = append(b, d.Alg()...)
	b = append(b, ':', 0)
	return append(b, d.Sum...)
}
