package ledger

import "github.com/imakexec/imakexec/imalog"

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
	i, off := 0, 0
	for rec := range imalog.Records(list.Binary, nil) {
		if len(own) == 0 {
			break
		}
		if own[0].start == off {
			list.Own = append(list.Own, i)
			own = own[1:]
		}
		off += rec.BinarySize()
		i++
	}
	return list
}
