package imalog

import (
	"bytes"
	"strconv"
)

// AppendText appends the record's line in ascii_runtime_measurements, with its
// newline (security/integrity/ima/ima_fs.c: ima_ascii_measurements_show).
//
// Template data that no kernel writes is shown as bytes: a digest without its
// algorithm in hexadecimal as it is, and all the data of an unknown template as if it
// were one field. The error unwraps to ErrFields where the data does not have the
// fields of its template; b is then returned as it was.
func (r *Record) AppendText(b []byte) ([]byte, error) {
	start := len(b)
	if pcr := int32(r.PCR); 0 <= pcr && pcr < 10 {
		b = append(b, ' ')
	}
	b = strconv.AppendInt(b, int64(int32(r.PCR)), 10) // the kernel keeps it as an int
	b = append(b, ' ')
	b = appendHex(b, r.Digest)
	b = append(b, ' ')
	b = append(b, r.Template...)
	for f, err := range r.Fields() {
		if err == ErrTemplate {
			b = append(b, ' ')
			b = appendHex(b, r.Data)
			break
		}
		if err != nil {
			return b[:start], err
		}
		b = append(b, ' ')
		b = f.appendText(b)
	}
	return append(b, '\n'), nil
}

// appendText appends a field as the kernel shows it
// (security/integrity/ima/ima_template_lib.c: ima_show_template_data_ascii).
func (f Field) appendText(b []byte) []byte {
	switch f.Kind() {
	case KindText, KindNames:
		return append(b, cString(f.Data)...)
	case KindUint:
		if v, ok := f.uint(); ok {
			return strconv.AppendUint(b, v, 10)
		}
		return b
	case KindDigest:
		tag := cString(f.Data)
		if i := len(tag) - 1; f.ID() != "d" && i >= 0 && tag[i] == ':' && len(tag) < len(f.Data) {
			if i > 0 {
				b = append(b, tag...)
			}
			return appendHex(b, f.Data[len(tag)+1:])
		}
	}
	return appendHex(b, f.Data)
}

// cString returns what comes before the first NUL.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}
