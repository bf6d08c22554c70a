package ledger

import (
	"context"
	"errors"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// advance moves records into the body until they lead to the PCR's value. False:
// they do not.
func (l *Ledger) advance(ctx context.Context) (bool, error) {
	if l.state != nil {
		return l.splice(ctx)
	}
	// The kernel's records replay by themselves up to what the PCR held before the
	// first record of user space, and from there with them; or, where the value is a
	// quote from before that, without them.
	for _, e := range l.open {
		if e.Record.PCR != l.PCR {
			continue
		}
		before, err := replayable(e.Before, l.Hashes)
		if err != nil || before == nil {
			continue
		}
		found, err := l.verify(ctx, before)
		if err != nil {
			return false, err
		}
		if found {
			if found, err = l.splice(ctx); found || err != nil {
				return found, err
			}
			l.unsettle()
		}
		break
	}
	return l.verify(ctx, l.want)
}

// verify settles the longest prefix of the kernel's list that replays to want.
func (l *Ledger) verify(ctx context.Context, want imalog.Values) (bool, error) {
	list, n := l.tail, l.tailRecords
	for {
		res, err := imalog.Verify(ctx, imalog.Records(list, nil), want,
			&imalog.ReplayOptions{PCR: l.PCR, Banks: Banks(want), Hashes: l.Hashes})
		if err != nil {
			return false, err
		}
		if res.Matched() {
			l.state, l.modes = res.End, true
			l.body = append(make([]byte, 0, len(list)+len(list)/8+1<<16), list...)
			l.records = n
			l.tail, l.tailRecords = l.tail[len(list):], l.tailRecords-n
			return true, nil
		}
		// Records that came between the reading of the PCR and that of the list
		// are a tail: replay again without it, to have the state at its start.
		p := res.Banks[0].Prefix
		for _, b := range res.Banks {
			if b.Prefix != p {
				return false, nil
			}
		}
		if p < 0 || p == n {
			return false, nil
		}
		list, n = list[:offsetOf(list, p)], p
	}
}

// unsettle undoes verify.
func (l *Ledger) unsettle() {
	l.tail, l.tailRecords = append(l.body, l.tail...), l.records+l.tailRecords
	l.body, l.records, l.own, l.state = nil, 0, nil, nil
	clear(l.placed)
}

// splice settles the tail, with what is open in it, as far as it leads to the
// PCR's value.
func (l *Ledger) splice(ctx context.Context) (bool, error) {
	var kernel []imalog.Record
	for rec, err := range imalog.Records(l.tail, nil) {
		if err != nil {
			return false, err
		}
		kernel = append(kernel, rec)
	}
	var found *events.Spliced
	for _, start := range l.starts() {
		var err error
		found, err = events.Splice(ctx, start, kernel, l.open, l.want, nil)
		if errors.Is(err, events.ErrNoPlace) || errors.Is(err, events.ErrAmbiguous) {
			continue
		}
		if err != nil {
			return false, err
		}
		break
	}
	if found == nil {
		return false, nil
	}
	end := found.Kernel
	for end < len(kernel) && kernel[end].PCR != l.PCR {
		if err := found.End.Add(&kernel[end]); err != nil { // which no value can confirm
			return false, err
		}
		end++
	}
	next := 0
	for i := 0; i <= end; i++ {
		for ; next < len(found.At) && found.At[next] <= i; next++ {
			if e := l.open[next]; found.At[next] >= 0 {
				start := len(l.body)
				var err error
				if l.body, err = e.Record.AppendBinary(l.body); err != nil {
					return false, err
				}
				l.own = append(l.own, span{start, len(l.body)})
				l.records++
				l.placed[e.Seq] = true
			}
		}
		if i == end {
			break
		}
		size := kernel[i].BinarySize()
		l.body = append(l.body, l.tail[:size]...)
		l.tail = l.tail[size:]
		l.records++
		l.tailRecords--
	}
	var open []events.Entry
	for _, e := range l.open {
		if !l.placed[e.Seq] {
			open = append(open, e)
		}
	}
	l.open, l.state = open, found.End
	l.modes = l.modes || end > 0
	return true, nil
}

// starts are the states from which the tail may replay: one, but for a list that
// did not lead to the PCR. Nothing in it tells how the kernel extends each bank,
// so until the first record of the kernel was settled all that was seen is tried.
func (l *Ledger) starts() []*imalog.Replayer {
	starts := []*imalog.Replayer{l.state}
	if l.modes {
		return starts
	}
	for _, padded := range [][]uint16{
		nil,
		{imalog.AlgSHA384, imalog.AlgSHA512},
		{imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512},
	} {
		r := l.state.Clone()
		for alg := range l.want {
			r.SetPadded(alg, false)
		}
		for _, alg := range padded {
			r.SetPadded(alg, true)
		}
		starts = append(starts, r)
	}
	return starts
}

// offsetOf returns where record n of an encoded list begins.
func offsetOf(list []byte, n int) int {
	off := 0
	for rec, err := range imalog.Records(list, nil) {
		if n == 0 || err != nil {
			break
		}
		off += rec.BinarySize()
		n--
	}
	return off
}
