package main

import (
	"errors"
	"fmt"

	"github.com/imakexec/imakexec/imalog"
)

var errForm = errors.New("neither a binary nor an ASCII measurement list, nor a kexec buffer")

// describe says in words in which form a part is.
func (p *part) describe() string {
	s := "binary"
	switch {
	case p.form.Text:
		s = "ASCII"
	case p.form.Kexec:
		head := make([]byte, imalog.HeaderSize)
		if _, err := p.data.ReadAt(head, 0); err != nil {
			return "kexec buffer"
		}
		_, h, _ := imalog.Restore(head) // for the header
		s = fmt.Sprintf("kexec buffer of %s in %s", count(h.Count, "record"), count(h.Size, "byte"))
	}
	if order := p.form.Options.ByteOrder; order != nil && order.Uint16([]byte{0, 1}) == 1 {
		s += ", big-endian"
	}
	return s
}

// recognize tells the form of a part. It looks at more of one whose first record
// is long.
func (o *opener) recognize(p *part) error {
	if p.size == 0 || o.raw {
		return nil
	}
	for n := int64(imalog.HeadSize); ; n *= 16 {
		head := make([]byte, min(n, p.size))
		if _, err := p.data.ReadAt(head, 0); err != nil {
			return &readError{name: p.name, err: err}
		}
		form, ok := imalog.Recognize(head)
		size := imalog.AlgSize(o.alg)
		switch {
		case ok && o.alg != 0 && !form.Text && !form.Kexec && form.Options.DigestSize != size:
			return &readError{name: p.name, err: fmt.Errorf("has digests of %d bytes; those of %s have %d",
				form.Options.DigestSize, imalog.AlgName(o.alg), size)}
		case ok:
			p.form = form
			return nil
		case n >= p.size || n > maxRecord:
			return &readError{p.name, "record 0 at offset 0", errForm}
		}
	}
}

// maxRecord is what imalog takes for one record at most, in bytes.
const maxRecord = 64 << 20
