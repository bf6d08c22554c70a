package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/imakexec/imakexec/imalog"
)

// Errors of Splice; a *SpliceError unwraps to them.
var (
	// ErrNoPlace: no placement of the journaled records gives the PCR's value.
	ErrNoPlace = errors.New("no place for the journaled records gives the PCR's value")
	// ErrAmbiguous: the PCR does not tell which of two different lists is right.
	ErrAmbiguous = errors.New("the PCR proves more than one order of the records")
	// ErrNoValues: there is nothing to prove a place with.
	ErrNoValues = errors.New("no PCR value in a bank that is replayed")
)

// SpliceOptions configures Splice.
type SpliceOptions struct {
	// MaxSteps bounds the work, in records replayed. 0: a million, and four for
	// every record.
	MaxSteps int
}

// Spliced is where journaled records lie among the kernel's.
type Spliced struct {
	// At has, for each journaled record, the number of kernel records before it,
	// and -1 for one that is not in the PCR.
	At []int
	// Kernel is how many of the kernel's records the PCR's value covers: the
	// rest were measured after it was read.
	Kernel int
	// End is the replay up to there.
	End *imalog.Replayer
	// Steps is the number of records replayed to find it.
	Steps int
}

// SpliceError tells how far Splice came.
type SpliceError struct {
	Err     error
	Entry   int  // index in the journal, of the record in question; -1: none in particular
	Limited bool // the search was given up at MaxSteps
	Steps   int
}

func (e *SpliceError) Error() string {
	s := fmt.Sprintf("events: splice: %v", e.Err)
	if e.Entry >= 0 {
		s += fmt.Sprintf(" (journal entry %d)", e.Entry)
	}
	if e.Limited {
		s += fmt.Sprintf(" within %d steps", e.Steps)
	}
	return s
}

func (e *SpliceError) Unwrap() error { return e.Err }

// Splice finds where journaled records lie among the kernel's, so that the
// replay gives want.
//
// start is the replay up to kernel[0] and is not changed; kernel are the records
// that follow it in the kernel's list, journal the entries, in order, that were
// extended after start, or may have been. want are the values of the PCR at any
// later moment, each of whose banks start has to replay. It may be older than
// the list or the journal: what was measured after it counts as not there. Where
// kernel goes on into another boot, start's banks have to be padded there as
// they are at the start. Records and entries of another PCR than start's have no
// part in it.
//
// An entry's Before is a value of the PCR on the way to its place, so the place
// is looked for from where the replay shows it; mostly it is just there, and a
// few records later when the kernel was faster than user space, or another entry
// was. An entry without Before is tried everywhere. One that is Dropped is not
// looked for; of any other the PCR tells whether it was extended.
//
// A value proves all that leads to it, so what is found is the only list, but
// for the order of records of other PCRs (Splice puts an entry before them) and
// for records with equal digests: when these are not equal in every byte,
// Splice fails with ErrAmbiguous. It fails with ErrNoPlace when there is no
// place or the search took too long, ErrNoValues when want or start is empty.
func Splice(ctx context.Context, start *imalog.Replayer, kernel []imalog.Record, journal []Entry, want imalog.Values, opts *SpliceOptions) (*Spliced, error) {
	var o SpliceOptions
	if opts != nil {
		o = *opts
	}
	if o.MaxSteps == 0 {
		o.MaxSteps = 1<<20 + 4*(len(kernel)+len(journal))
	}
	banks := start.Values()
	for alg := range want {
		if banks[alg] == nil {
			return nil, &SpliceError{Err: fmt.Errorf("%w: start does not replay bank %s", ErrNoValues, bankName(alg)), Entry: -1}
		}
	}
	if len(want) == 0 {
		return nil, &SpliceError{Err: ErrNoValues, Entry: -1}
	}
	s := &splicer{ctx: ctx, kernel: kernel, want: want, limit: o.MaxSteps, at: slices.Repeat([]int{-1}, len(journal))}
	for i := range journal {
		e := &journal[i]
		if e.State != Dropped && e.Record.PCR == start.PCR() {
			s.entries = append(s.entries, candidate{
				index: i, entry: e,
				before: restrict(e.Before, banks), after: restrict(e.After, banks),
			})
		}
	}
	s.passed = make([]int, len(s.entries))
	found := s.walk(start.Clone(), 0, 0)
	if !found && s.err == nil && s.steps < s.limit {
		s.again = true
		found = s.walk(start.Clone(), 0, 0)
	}
	switch {
	case s.err != nil:
		return nil, fmt.Errorf("events: splice: %w", s.err)
	case !found:
		return nil, &SpliceError{Err: ErrNoPlace, Entry: -1, Limited: s.steps >= s.limit, Steps: s.steps}
	}
	if i := s.ambiguous(start.PCR(), journal); i >= 0 {
		return nil, &SpliceError{Err: ErrAmbiguous, Entry: i, Steps: s.steps}
	}
	return &Spliced{At: s.at, Kernel: s.matched, End: s.end, Steps: s.steps}, nil
}

// restrict returns the values of v in the banks that are replayed, nil if there
// are none.
func restrict(v, banks imalog.Values) imalog.Values {
	var out imalog.Values
	for alg, value := range v {
		if banks[alg] != nil {
			if out == nil {
				out = imalog.Values{}
			}
			out[alg] = value
		}
	}
	return out
}

type splicer struct {
	ctx     context.Context
	kernel  []imalog.Record
	entries []candidate
	want    imalog.Values
	limit   int
	passed  []int // for each entry, the walks that came by its Before and did not place it
	again   bool  // the second try: such an entry may lie behind one of those before it

	steps   int
	err     error
	at      []int
	matched int
	end     *imalog.Replayer
}

type candidate struct {
	index         int // in the journal
	entry         *Entry
	before, after imalog.Values
}

// add replays one record; false: the search is over.
func (s *splicer) add(r *imalog.Replayer, rec *imalog.Record) bool {
	if s.err != nil || s.steps >= s.limit {
		return false
	}
	if s.steps++; s.steps%1024 == 0 {
		if s.err = s.ctx.Err(); s.err != nil {
			return false
		}
	}
	s.err = r.Add(rec)
	return s.err == nil
}

// A spot is a state of the replay at which an entry may have been about to be
// extended.
type spot struct {
	entry, kernel int
	state         *imalog.Replayer
}

// walk replays the kernel's records from k on, with r as the state there, until
// it gives want or one of the entries from j on, placed, leads to it.
func (s *splicer) walk(r *imalog.Replayer, k, j int) bool {
	var spots []spot
	first := k
	for {
		if r.Match(s.want) {
			s.matched, s.end = k, r
			return true
		}
		// The later one first: it was read here although the earlier had its turn.
		for i := len(s.entries) - 1; i >= j; i-- {
			c := &s.entries[i]
			if s.again && s.passed[i] > 0 {
				// Its Before was read before the entry was extended behind which this is.
				if k <= first+vicinity && s.place(r, k, i) {
					return true
				}
				continue
			}
			if c.before != nil && !r.Match(c.before) {
				continue
			}
			if c.before != nil && c.after != nil {
				if at, before := s.nearby(spot{i, k, r.Clone()}); before != nil {
					if s.place(before, at, i) {
						return true
					}
					continue // proved: it has no other place, so want is older
				}
			}
			if s.place(r, k, i) {
				return true
			}
			if c.before != nil { // else it is tried everywhere as it is
				spots = append(spots, spot{i, k, r.Clone()})
				s.passed[i]++
			}
		}
		if k == len(s.kernel) || !s.add(r, &s.kernel[k]) {
			break
		}
		k++
	}
	for _, sp := range spots {
		s.passed[sp.entry]--
	}
	// No entry lies where its Before is. Records of the kernel slipped between;
	// the last spot first, since to have come there proves that no entry lies
	// earlier.
	for _, sp := range slices.Backward(spots) {
		if s.slip(sp) {
			return true
		}
	}
	return false
}

// place puts entry i behind k records of the kernel and walks on.
func (s *splicer) place(before *imalog.Replayer, k, i int) bool {
	c := &s.entries[i]
	r := before.Clone()
	if !s.add(r, &c.entry.Record) {
		return false
	}
	s.at[c.index] = k
	if s.walk(r, k, i+1) {
		return true
	}
	s.at[c.index] = -1
	return false
}

// slip tries the places behind a spot.
func (s *splicer) slip(sp spot) bool {
	for sp.kernel < len(s.kernel) {
		if !s.add(sp.state, &s.kernel[sp.kernel]) {
			return false
		}
		sp.kernel++
		if s.place(sp.state, sp.kernel, sp.entry) {
			return true
		}
	}
	return false
}

// vicinity is how many records of the kernel may have come between reading the PCR
// and extending it, and as many again before reading it once more, for an entry
// to be placed by its After.
const vicinity = 32

// nearby looks for the place at a spot or close behind it from which the entry
// leads to its After, and returns the state there, nil if there is none.
func (s *splicer) nearby(sp spot) (int, *imalog.Replayer) {
	for range vicinity {
		if s.leadsTo(sp) {
			return sp.kernel, sp.state
		}
		if sp.kernel == len(s.kernel) || !s.add(sp.state, &s.kernel[sp.kernel]) {
			break
		}
		sp.kernel++
	}
	return 0, nil
}

// leadsTo reports whether an entry at a spot gives its After soon.
func (s *splicer) leadsTo(sp spot) bool {
	c := &s.entries[sp.entry]
	r := sp.state.Clone()
	if !s.add(r, &c.entry.Record) {
		return false
	}
	for k := sp.kernel; ; k++ {
		if r.Match(c.after) {
			return true
		}
		if k == min(sp.kernel+vicinity, len(s.kernel)) || !s.add(r, &s.kernel[k]) {
			return false
		}
	}
}

// ambiguous returns the first entry that could as well lie elsewhere and make
// another list: next to a record that extends the PCR alike but is not the same.
func (s *splicer) ambiguous(pcr uint32, journal []Entry) int {
	alike := func(e *Entry, rec *imalog.Record) (alike, same bool) {
		a, err1 := e.Record.AppendDigest(nil, imalog.AlgSHA1)
		b, err2 := rec.AppendDigest(nil, imalog.AlgSHA1)
		equal := err1 == nil && err2 == nil && bytes.Equal(a, b)
		return e.Record.Violation() && rec.Violation() || equal && e.Record.Violation() == rec.Violation(), sameRecord(&e.Record, rec)
	}
	for i, at := range s.at {
		if at < 0 {
			continue
		}
		e := &journal[i]
		for _, list := range []iter.Seq2[int, imalog.Record]{
			slices.Backward(s.kernel[:at]),
			slices.All(s.kernel[at:s.matched]),
		} {
			for _, rec := range list {
				if rec.PCR != pcr {
					continue
				}
				alike, same := alike(e, &rec)
				if alike && !same {
					return i
				}
				if !alike {
					break
				}
			}
		}
	}
	return -1
}

// Merge returns the list with the journaled records in their places: all of
// kernel, which must be what Splice was given, and the entries that are in the
// PCR.
func (s *Spliced) Merge(kernel []imalog.Record, journal []Entry) []imalog.Record {
	out := make([]imalog.Record, 0, len(kernel)+len(journal))
	k := 0
	for i, at := range s.At {
		if at < 0 {
			continue
		}
		out = append(out, kernel[k:at]...)
		out = append(out, journal[i].Record)
		k = at
	}
	return append(out, kernel[k:]...)
}
