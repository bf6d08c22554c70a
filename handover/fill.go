package handover

import (
	"fmt"

	"github.com/imakexec/imakexec/imalog"
)

// fill writes the list into the kexec buffer, and last, if any, behind it. Of what
// an earlier fill of the same buffer wrote, the settled part is not written again.
// A list that does not fit is cut when that is allowed: to as many whole records as
// fit before those of user space, which are kept, since kexec_execute tells the
// verifier how many there were.
func (l *ledger) fill(dst []byte, mayCut bool, last ...imalog.Record) error {
	rest, n, own := l.rest()
	var end []byte
	for _, rec := range last {
		var err error
		if end, err = rec.AppendBinary(end); err != nil {
			return err
		}
	}
	size := imalog.HeaderSize + len(l.body) + len(rest) + len(end)
	l.cut = 0
	if size > len(dst) {
		if !mayCut {
			return fmt.Errorf("%w: it has %d bytes and %d are needed", ErrOutgrown, len(dst), size)
		}
		l.filled = 0
		return l.truncate(dst, rest, append(l.own[:len(l.own):len(l.own)], own...), end, len(last))
	}
	at := imalog.HeaderSize + len(l.body)
	copy(dst[imalog.HeaderSize+l.filled:], l.body[l.filled:])
	l.filled = len(l.body)
	at += copy(dst[at:], rest)
	copy(dst[at:], end)
	imalog.Header{Version: 1, Size: uint64(size), Count: uint64(l.records + n + len(last))}.Put(dst)
	return nil
}

func (l *ledger) truncate(dst, rest []byte, own []span, end []byte, ends int) error {
	keep := len(end)
	for _, s := range own {
		keep += s.end - s.start
	}
	at, count, off := imalog.HeaderSize, 0, 0
	if at+keep > len(dst) {
		return fmt.Errorf("%w: its %d bytes have no room for the events alone", ErrOutgrown, len(dst))
	}
	for _, part := range [][]byte{l.body, rest} {
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
