package ledger

import (
	"iter"

	"github.com/imakexec/imakexec/imalog"
)

// A List is what the PCR proves of the list: see handover.List.
type List struct {
	Binary []byte
	Count  int
	Own    []int // indices of the records of user space
	Later  int   // records that were measured after Values
	Values imalog.Values
	Status Status
}

// List returns the list as far as the PCR proves it, or all of it when it does not.
func (l *Ledger) List() *List {
	list := &List{Binary: l.body, Count: l.records, Values: l.want, Status: l.Status()}
	own := l.own
	rest, n, more := l.rest()
	if list.Status.Proved {
		list.Later = n
	} else {
		list.Binary, list.Count, own = append(l.body, rest...), l.records+n, append(own, more...)
	}
	if len(own) > 0 {
		i := 0
		for _, isOwn := range records(list.Binary, own) {
			if isOwn {
				list.Own = append(list.Own, i)
			}
			i++
		}
	}
	return list
}

// records goes through an encoded list and tells which records are user space's.
func records(list []byte, own []span) iter.Seq2[[]byte, bool] {
	return func(yield func([]byte, bool) bool) {
		off := 0
		for rec := range imalog.Records(list, nil) {
			end := off + rec.BinarySize()
			isOwn := len(own) > 0 && own[0].start == off
			if isOwn {
				own = own[1:]
			}
			if !yield(list[off:end], isOwn) {
				return
			}
			off = end
		}
	}
}
