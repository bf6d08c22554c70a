package imalog

import (
	"bytes"
	"io"
	"math"
	"strconv"
)

// A TextReader reads a list as ascii_runtime_measurements shows it, in constant
// memory: the reverse of Record.AppendText.
//
// The text says less than the binary form, and the template digest makes up for
// it: where it is that of the data, Digest and Data are exactly those that the
// kernel printed. That holds for names with line feeds in them, too, which the
// kernel prints as they are: a line that does not match its digest is tried
// together with those that follow.
//
// Without a digest that matches, as in a violation, these are lost: what comes
// after a NUL in a name; whether an empty name has a NUL; the colon of a digest
// without an algorithm; the size of integers (a kernel's iuid and igid have four
// bytes, imode two); and where a name ends whose continuation looks like a
// record.
type TextReader struct {
	in     window
	order  byteOrder
	max    uint64
	offset int64
	count  int
	rec    Record
	text   textFields
	credit int // digests that may be tried
	err    error
}

// A record's text is tried in as many readings as there are, and now and then there are
// hundreds; but on average these.
const (
	creditEach = 8
	creditMost = 1 << 14
)

// NewTextReader returns a TextReader. DigestSize of the options does not matter:
// the text tells. ByteOrder is that in which Data has its lengths and integers,
// the kernel's.
func NewTextReader(r io.Reader, opts *ReaderOptions) *TextReader {
	p := newParser(opts)
	return &TextReader{in: window{r: r}, order: p.order, max: p.max, credit: creditMost}
}

// Next returns the next record, valid until the next call. The error is io.EOF
// at the end and otherwise a *RecordError as that of Reader.Next.
func (r *TextReader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	n, err := r.next()
	if err == nil {
		r.in.pos += n
		r.offset += int64(n)
		r.count++
		return &r.rec, nil
	}
	if err != io.EOF {
		err = &RecordError{r.offset, r.count, err}
	}
	r.err = err
	return nil, err
}

// Offset returns the number of bytes of the records that Next has returned.
func (r *TextReader) Offset() int64 { return r.offset }

// Count returns the number of records that Next has returned.
func (r *TextReader) Count() int { return r.count }

// A name can be as long as a path, with line feeds in it: so far its end is
// looked for.
const (
	maxNameLines = 64
	maxNameBytes = 8 << 10
)

// next finds the record at the start of the input and returns its size.
func (r *TextReader) next() (int, error) {
	end, plain := 0, 0
	r.credit = min(max(r.credit, 0)+creditEach, creditMost)
	for n := 0; n == 0 || n < maxNameLines && end < maxNameBytes && (r.credit > 0 || plain == 0); n++ {
		next, err := r.line(end)
		if err == io.EOF && n > 0 {
			break
		}
		if err != nil {
			return 0, err
		}
		end = next
		switch exact, whole := r.parse(r.in.unused()[:end]); {
		case exact:
			return end, nil
		case whole && plain == 0 && r.another(end):
			plain = end
		}
	}
	if plain == 0 {
		return 0, ErrFormat
	}
	r.parse(r.in.unused()[:plain])
	return plain, nil
}

// line returns where the line ends that starts at a distance from what was used:
// behind its line feed, or at the end of the input.
func (r *TextReader) line(start int) (int, error) {
	for seen := start; ; {
		b := r.in.unused()
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			return seen + i + 1, nil
		}
		seen = len(b)
		if uint64(seen) > 2*r.max { // two digits a byte
			return 0, ErrTooLarge
		}
		if err := r.in.fill(); err != nil {
			if err == io.EOF && seen > start {
				return seen, nil
			}
			return 0, err
		}
	}
}

// another reports whether a record may end here: another follows, or the list
// ends.
func (r *TextReader) another(end int) bool {
	next, err := r.line(end)
	if err != nil {
		return err == io.EOF
	}
	_, ok := cutHead(r.in.unused()[end:next])
	return ok
}

// A textHead is what each line begins with.
type textHead struct {
	pcr          uint32
	digest, rest []byte
}

func cutHead(line []byte) (h textHead, ok bool) {
	number, rest, _ := bytes.Cut(bytes.TrimPrefix(line, []byte{' '}), []byte{' '})
	pcr, err := strconv.ParseInt(string(number), 10, 32)
	if err != nil {
		return h, false
	}
	h.pcr = uint32(pcr)
	h.digest, h.rest, ok = bytes.Cut(rest, []byte{' '})
	return h, ok && len(h.digest) > 0 && isHex(h.digest)
}

// parse parses a record. It reports whether its digest shows that it is exactly
// what was printed, and whether it has all its fields.
func (r *TextReader) parse(line []byte) (exact, whole bool) {
	h, ok := cutHead(bytes.TrimSuffix(line, []byte{'\n'}))
	if !ok {
		return false, false
	}
	template, text, ok := bytes.Cut(h.rest, []byte{' '})
	if !ok || len(template) == 0 || len(template) > maxTemplate {
		return false, false
	}
	if string(template) != r.rec.Template {
		r.rec.Template = string(template)
	}
	r.rec.PCR, r.rec.BigEndian = h.pcr, bool(r.order)
	r.rec.Digest = appendUnhex(r.rec.Digest[:0], h.digest)
	if !r.text.split(r.rec.Template, text) {
		return false, false
	}
	alg := algOfSize(len(r.rec.Digest))
	if !r.rec.Violation() {
		for variant := uint(1) << r.text.unclear; variant > 0; variant-- {
			if r.credit--; r.credit < 0 && variant > 1 {
				continue // to the plainest reading
			}
			if r.rec.Data, ok = r.text.encode(r.rec.Data[:0], r.order, variant-1); !ok {
				return false, false
			}
			var sum [maxDigest]byte
			if got, err := r.rec.AppendDigest(sum[:0], alg); err == nil && bytes.Equal(got, r.rec.Digest) {
				return true, true
			}
		}
		return false, true
	}
	r.rec.Data, ok = r.text.encode(r.rec.Data[:0], r.order, 0)
	return false, ok
}

// textFields are the fields of a record as they are printed.
type textFields struct {
	fields  []fieldIndex
	tokens  [][]byte
	old     bool // template "ima"
	unclear int  // fields of which the text leaves two readings
}

// maxUnclear bounds the readings that are tried: no named template has more.
const maxUnclear = 4

// split cuts the text into the template's fields.
func (t *textFields) split(template string, text []byte) bool {
	t.old = template == templateIMA
	t.fields, t.tokens, t.unclear = t.fields[:0], t.tokens[:0], 0
	fields, ok := fieldsOf(template, t.fields)
	if !ok {
		t.fields = append(t.fields, fieldUnknown)
		t.tokens = append(t.tokens, text)
		return true
	}
	t.fields = append(t.fields, fields...)
	names := 0
	for _, i := range t.fields {
		if fieldTypes[i].kind == KindText {
			names++
		}
	}
	// The kernel prints no spaces in a name but those of a list that it was handed:
	// more spaces than there are fields belong to the name, if there is but one.
	extra := bytes.Count(text, []byte{' '}) - (len(t.fields) - 1)
	if extra < 0 || extra > 0 && names != 1 {
		return false
	}
	for _, i := range t.fields {
		ft := &fieldTypes[i]
		end := wordEnd(text, 0)
		for ; ft.kind == KindText && extra > 0; extra-- {
			end = wordEnd(text, end+1)
		}
		token := text[:end]
		text = text[min(end+1, len(text)):]
		t.tokens = append(t.tokens, token)
		if unclear(ft, token) && t.unclear < maxUnclear {
			t.unclear++
		}
	}
	return true
}

func wordEnd(text []byte, start int) int {
	if i := bytes.IndexByte(text[start:], ' '); i >= 0 {
		return start + i
	}
	return len(text)
}

// unclear reports whether a printed field may stand for two.
func unclear(ft *fieldType, token []byte) bool {
	switch ft.kind {
	case KindText, KindNames:
		return len(token) == 0 // a NUL or nothing
	case KindDigest:
		return ft.id != "d" && len(token) > 0 && bytes.IndexByte(token, ':') < 0 // with a colon or bare
	}
	return false
}

// encode appends template data. The bits of variant choose among two readings of
// the unclear fields, the last one first.
func (t *textFields) encode(b []byte, order byteOrder, variant uint) ([]byte, bool) {
	left := t.unclear
	for n, i := range t.fields {
		ft, token := &fieldTypes[i], t.tokens[n]
		other := false
		if left > 0 && unclear(ft, token) {
			left--
			other = variant>>left&1 != 0
		}
		counted := i != fieldUnknown && i != fieldDIMA
		start := len(b)
		if counted {
			b = order.appendUint32(b, 0)
		}
		data := len(b)
		switch ft.kind {
		case KindText:
			b = append(b, token...)
			if !t.old && !other {
				b = append(b, 0)
			}
		case KindNames:
			b = append(b, token...)
			if len(token) > 0 || other {
				b = append(b, 0)
			}
		case KindUint:
			var ok bool
			if b, ok = appendTextUint(b, order, ft.id, token); !ok {
				return b, false
			}
		case KindDigest:
			if colon := bytes.LastIndexByte(token, ':'); colon >= 0 && ft.id != "d" {
				b = append(b, token[:colon+1]...)
				b = append(b, 0)
				token = token[colon+1:]
			} else if ft.id != "d" && len(token) > 0 && !other {
				b = append(b, ':', 0)
			}
			fallthrough
		default:
			if !isHex(token) {
				return b, false
			}
			b = appendUnhex(b, token)
		}
		if counted {
			order.putUint32(b[start:], uint32(len(b)-data))
		}
		if i == fieldDIMA && len(b)-data != 20 {
			return b, false
		}
	}
	return b, true
}

// appendTextUint appends an integer in the size that the kernel gives it, or in
// the least one that holds it.
func appendTextUint(b []byte, order byteOrder, id string, token []byte) ([]byte, bool) {
	if len(token) == 0 {
		return b, true
	}
	v, err := strconv.ParseUint(string(token), 10, 64)
	switch {
	case err != nil:
		return b, false
	case v > math.MaxUint32:
		return order.appendUint64(b, v), true
	case v > math.MaxUint16 || id != "imode":
		return order.appendUint32(b, uint32(v)), true
	}
	return order.appendUint16(b, uint16(v)), true
}
