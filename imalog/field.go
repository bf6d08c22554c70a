package imalog

import "bytes"

// A FileDigest is the digest of what was measured, as the fields d, d-ng, d-ngv2
// and d-modsig have it.
type FileDigest struct {
	Type string // "ima" or "verity" in d-ngv2, "" elsewhere
	Alg  string // the kernel's name, such as "sha256"; "" in field d
	Sum  []byte // aliases the field
}

// FileDigest decodes a digest. In d-ng and d-modsig it is "<alg>:" NUL digest,
// in d-ngv2 "<type>:<alg>:" NUL digest, in d the digest alone, of SHA-1 or MD5
// (security/integrity/ima/ima_template_lib.c: ima_eventdigest_init_common). An
// error unwraps to ErrFields.
func (f *Field) FileDigest() (d FileDigest, err error) {
	const usual = "sha256:\x00" // nearly all are
	if f.ID == "d-ng" && len(f.Data) >= len(usual) && string(f.Data[:len(usual)]) == usual {
		return FileDigest{Alg: "sha256", Sum: f.Data[len(usual):]}, nil
	}
	if f.ID == "d" {
		return FileDigest{Sum: f.Data}, nil
	}
	tag, sum, found := bytes.Cut(f.Data, []byte{0})
	if !found || len(tag) == 0 || tag[len(tag)-1] != ':' || f.Kind() != KindDigest {
		return d, malformed(f.ID)
	}
	tag = tag[:len(tag)-1]
	if f.ID == "d-ngv2" {
		i := bytes.IndexByte(tag, ':')
		if i <= 0 {
			return d, malformed(f.ID)
		}
		d.Type, tag = word(tag[:i]), tag[i+1:]
	}
	if bytes.IndexByte(tag, ':') >= 0 {
		return d, malformed(f.ID)
	}
	d.Alg, d.Sum = word(tag), sum
	return d, nil
}

// Append appends the digest as a field of the identifier has it, without the
// field's length: the reverse of Field.FileDigest.
func (d FileDigest) Append(b []byte, id string) []byte {
	if id == "d" {
		return append(b, d.Sum...)
	}
	if id == "d-ngv2" {
		b = append(b, d.Type...)
		b = append(b, ':')
	}
	b = append(b, d.Alg...)
	b = append(b, ':', 0)
	return append(b, d.Sum...)
}

// word returns a word of a digest's tag as a string, without allocating one for
// those that kernels use.
func word(b []byte) string {
	switch string(b) {
	case "ima":
		return "ima"
	case "verity":
		return "verity"
	case "sha256":
		return "sha256"
	}
	for _, s := range hashNames {
		if s == string(b) {
			return s
		}
	}
	return string(b)
}

// Text returns the string in a field n or n-ng. It ends with a NUL, which is left
// out, but in template "ima". The kernel has replaced spaces in it by underscores
// and nothing else: it can hold line feeds and any other byte. It aliases the
// field.
func (f *Field) Text() ([]byte, error) {
	if end := len(f.Data) - 1; f.kind == KindText && end >= 0 && f.Data[end] == 0 && bytes.IndexByte(f.Data[:end], 0) < 0 {
		return f.Data[:end], nil
	}
	if f.Kind() != KindText {
		return nil, malformed(f.ID)
	}
	return f.text()
}

func (f *Field) text() ([]byte, error) {
	i := bytes.IndexByte(f.Data, 0)
	switch {
	case i < 0 && f.ID == "n":
		return f.Data, nil
	case i < 0 || i != len(f.Data)-1:
		return nil, malformed(f.ID)
	}
	return f.Data[:i], nil
}

// Uint returns the integer in a field iuid, igid or imode, of 1, 2, 4 or 8
// bytes; 0 for one that is empty, as it is where there was no file.
func (f *Field) Uint() (uint64, error) {
	if f.Kind() != KindUint {
		return 0, malformed(f.ID)
	}
	if len(f.Data) == 0 {
		return 0, nil
	}
	v, ok := f.uint()
	if !ok {
		return 0, malformed(f.ID)
	}
	return v, nil
}

func (f *Field) uint() (uint64, bool) {
	order := byteOrder(f.BigEndian)
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
func (f *Field) Names() ([]string, error) {
	if f.Kind() != KindNames {
		return nil, malformed(f.ID)
	}
	if len(f.Data) == 0 {
		return nil, nil
	}
	text, err := f.text()
	if err != nil || len(text) == 0 {
		return nil, err
	}
	names := make([]string, 0, bytes.Count(text, []byte{'|'})+1)
	for name := range bytes.SplitSeq(text, []byte{'|'}) {
		names = append(names, string(name))
	}
	return names, nil
}

// Lengths returns the lengths in bytes of the extended attributes in a field
// xattrlengths: 32-bit integers.
func (f *Field) Lengths() ([]uint32, error) {
	if f.Kind() != KindLengths || len(f.Data)%4 != 0 {
		return nil, malformed(f.ID)
	}
	lengths := make([]uint32, 0, len(f.Data)/4)
	for b := f.Data; len(b) > 0; b = b[4:] {
		lengths = append(lengths, byteOrder(f.BigEndian).uint32(b))
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
		return nil, malformed(f.ID)
	}
	all := make([]Xattr, 0, len(names))
	for i, name := range names {
		if uint64(lengths[i]) > uint64(len(f.Data)) {
			return nil, malformed(f.ID)
		}
		all = append(all, Xattr{name, f.Data[:lengths[i]:lengths[i]]})
		f.Data = f.Data[lengths[i]:]
	}
	if len(f.Data) != 0 {
		return nil, malformed(f.ID)
	}
	return all, nil
}
