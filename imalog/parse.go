package imalog

// A parser cuts records out of a list in binary form.
type parser struct {
	digest int // size of a digest in bytes
	order  byteOrder
	max    uint64 // bytes of one record
	last   string // template of the previous record
	custom []string
}

func newParser(opts *ReaderOptions) parser {
	p := parser{digest: 20, max: maxRecord, last: "ima-ng"}
	if opts != nil {
		if opts.DigestSize > 0 {
			p.digest = opts.DigestSize
		}
		if opts.MaxRecord > 0 {
			p.max = opts.MaxRecord
		}
		p.order = isBigEndian(opts.ByteOrder)
	}
	return p
}

// parse reads the record at the start of b and returns its size. Where b ends
// before the record does it reports false.
func (p *parser) parse(b []byte, rec *Record) (size uint64, ok bool, err error) {
	head := 4 + p.digest + 4
	if len(b) < head {
		return 0, false, nil
	}
	name := uint64(p.order.uint32(b[head-4:]))
	if name == 0 || name > maxTemplate {
		return 0, false, ErrFormat
	}
	pos := uint64(head) + name
	if uint64(len(b)) < pos+4 {
		return 0, false, nil
	}
	template := b[head:pos]
	if string(template) != p.last {
		p.last = p.intern(template)
	}
	start, size := pos, pos
	if p.last == templateIMA {
		// No length; a SHA-1 digest without one, then the name.
		size += 20 + 4
		if uint64(len(b)) < size {
			return 0, false, nil
		}
		size += uint64(p.order.uint32(b[size-4:]))
	} else {
		start += 4
		size += 4 + uint64(p.order.uint32(b[pos:]))
	}
	if size > p.max {
		return 0, false, ErrTooLarge
	}
	if uint64(len(b)) < size {
		return 0, false, nil
	}
	rec.PCR = p.order.uint32(b)
	rec.Digest = b[4 : head-4 : head-4]
	rec.Template = p.last
	rec.Data = b[start:size:size]
	rec.BigEndian = bool(p.order)
	return size, true, nil
}

// intern returns a template's name as a string, without allocating one for each
// record.
func (p *parser) intern(b []byte) string {
	for i := range templates {
		if templates[i].name == string(b) {
			return templates[i].name
		}
	}
	for _, s := range p.custom {
		if s == string(b) {
			return s
		}
	}
	s := string(b)
	if len(p.custom) < 16 { // a machine has one or two
		p.custom = append(p.custom, s)
	}
	return s
}
