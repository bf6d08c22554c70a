package handover

import (
	"fmt"

	"github.com/imakexec/imakexec/imalog"
)

// fill writes the list into the kexec buffer, and last, if any, behind it. Of what
// an earlier fill of the same buffer wrote, the part that cannot have changed is
// not written again. A list that does not fit is cut.
func (l *ledger) fill(dst []byte, last ...imalog.Record) error {
	var tail []byte
	for _, rec := range last {
		var err error
		if tail, err = rec.AppendBinary(tail); err != nil {
			return err
		}
	}
	if len(dst) < imalog.HeaderSize+len(tail) {
		return fmt.Errorf("a buffer of %d bytes has no room for any record", len(dst))
	}
	n, count, err := l.fillList(dst[:len(dst)-len(tail)])
	if err != nil {
		return err
	}
	end := n + copy(dst[n:], tail)
	imalog.Header{Version: 1, Size: uint64(end), Count: uint64(count + len(last))}.Put(dst)
	return nil
}

// fillList writes the records behind the header and returns where they end and
// how many they are.
func (l *ledger) fillList(dst []byte) (end, count int, err error) {
	l.cut = 0
	end = imalog.HeaderSize + len(l.body)
	if end > len(dst) {
		return l.truncate(dst)
	}
	copy(dst[imalog.HeaderSize+l.filled:], l.body[l.filled:])
	l.filled = len(l.body)
	return end, l.records, nil
}

// truncate writes as many whole records of the list as fit before those of user
// space, which are kept: kexec_execute tells the verifier how many records there
// were.
func (l *ledger) truncate(dst []byte) (end, count int, err error) {
	l.filled = 0
	own, keep := l.own, 0
	for _, s := range own {
		keep += s.end - s.start
	}
	end = imalog.HeaderSize
	if end+keep > len(dst) {
		return 0, 0, fmt.Errorf("a buffer of %d bytes has no room for the events alone", len(dst))
	}
	off := 0
	for rec, err := range imalog.Records(l.body, nil) {
		if err != nil {
			return 0, 0, err
		}
		size := rec.BinarySize()
		isOwn := len(own) > 0 && own[0].start == off
		if isOwn {
			own = own[1:]
			keep -= size
		}
		if isOwn || l.cut == 0 && end+size+keep <= len(dst) {
			end += copy(dst[end:], l.body[off:off+size])
			count++
		} else {
			l.cut++
		}
		off += size
	}
	return end, count, nil
}
