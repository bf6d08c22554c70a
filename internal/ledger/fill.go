package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/imakexec/imakexec/imalog"
)

// ErrOutgrown says that the list does not fit a buffer.
var ErrOutgrown = errors.New("the list has outgrown its buffer")

// NewBuffer tells that the next Fill writes to another buffer.
func (l *Ledger) NewBuffer() { l.filled = 0 }

// FillSize is the number of bytes that Fill writes, without its last records.
func (l *Ledger) FillSize() uint64 {
	_, size := l.Total()
	return size + uint64(l.kernel.old)*restorableExtra
}

// Cut is the number of records that the last Fill left out.
func (l *Ledger) Cut() int { return l.cut }

// Fill writes the list into the kexec buffer, and last, if any, behind it. Of what
// an earlier fill of the same buffer wrote, the settled part is not written again.
// A list that does not fit is cut when that is allowed: to as many whole records as
// fit before those of user space, which are kept, since kexec_execute tells the
// verifier how many there were.
func (l *Ledger) Fill(dst []byte, mayCut bool, last ...imalog.Record) error {
	body := l.body
	rest, n, own := l.rest()
	own = append(l.own[:len(l.own):len(l.own)], own...)
	if l.kernel.old > 0 {
		var err error
		if body, own, err = restorable(append(body[:len(body):len(body)], rest...), own); err != nil {
			return err
		}
		rest, l.filled = nil, 0
	}
	var end []byte
	for _, rec := range last {
		var err error
		if end, err = rec.AppendBinary(end); err != nil {
			return err
		}
	}
	size := imalog.HeaderSize + len(body) + len(rest) + len(end)
	l.cut = 0
	if size > len(dst) {
		if !mayCut {
			return fmt.Errorf("%w: it has %d bytes and %d are needed", ErrOutgrown, len(dst), size)
		}
		l.filled = 0
		return l.truncate(dst, [][]byte{body, rest}, own, end, len(last))
	}
	at := imalog.HeaderSize + len(body)
	copy(dst[imalog.HeaderSize+l.filled:], body[l.filled:])
	l.filled = len(l.body)
	at += copy(dst[at:], rest)
	copy(dst[at:], end)
	imalog.Header{Version: 1, Size: uint64(size), Count: uint64(l.records + n + len(last))}.Put(dst)
	return nil
}

func (l *Ledger) truncate(dst []byte, parts [][]byte, own []span, end []byte, ends int) error {
	keep := len(end)
	for _, s := range own {
		keep += s.end - s.start
	}
	at, count, off := imalog.HeaderSize, 0, 0
	if at+keep > len(dst) {
		return fmt.Errorf("%w: its %d bytes have no room for the events alone", ErrOutgrown, len(dst))
	}
	for _, part := range parts {
		for rec, err := range imalog.Records(part, nil) {
			if err != nil {
				return err
			}
			size := rec.BinarySize()
			isOwn := len(own) > 0 && own[0].start == off
			if isOwn {
				own = own[1:]
				keep -= size
			}
			if isOwn || l.cut == 0 && at+size+keep <= len(dst) {
				at += copy(dst[at:], part[:size])
				count++
			} else {
				l.cut++
			}
			part = part[size:]
			off += size
		}
	}
	at += copy(dst[at:], end)
	imalog.Header{Version: 1, Size: uint64(at), Count: uint64(count + ends)}.Put(dst)
	return nil
}

// restorable rewrites what a kernel lists and would not restore: template "ima",
// whose fields have no lengths. The same fields under the format "d|n" are restored
// as "ima", with the same digests
// (security/integrity/ima/ima_template.c: lookup_template_desc takes either).
func restorable(list []byte, own []span) (out []byte, moved []span, err error) {
	off := 0
	for rec, err := range imalog.Records(list, nil) {
		if err != nil {
			return nil, nil, err
		}
		isOwn := len(own) > len(moved) && own[len(moved)].start == off
		off += rec.BinarySize()
		if rec.Template == "ima" {
			d, okD := rec.Field("d")
			n, okN := rec.Field("n")
			if !okD || !okN {
				return nil, nil, fmt.Errorf("record before offset %d: template \"ima\" without its fields", off)
			}
			rec.Template = "d|n"
			rec.Data = appendField(appendField(nil, d.Data), append(n.Data[:len(n.Data):len(n.Data)], 0))
		}
		start := len(out)
		if out, err = rec.AppendBinary(out); err != nil {
			return nil, nil, err
		}
		if isOwn {
			moved = append(moved, span{start, len(out)})
		}
	}
	return out, moved, nil
}

// restorableExtra is how much longer such a record becomes: the length of its
// data, of its two fields, a NUL, less that of the name.
const restorableExtra = 9

func appendField(b, field []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(field))), field...)
}
