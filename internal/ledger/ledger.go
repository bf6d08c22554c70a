// Package ledger keeps the measurement list as it has to be handed over: the kernel's
// records with those that user space measured in the places where the PCR proves that
// they belong.
//
// A Ledger reads the list once and then follows it (read.go), settles what is new as
// far as the PCR confirms it (ledger.go, place.go), says what can be said where it does
// not (disproof.go), and gives the result as a list (list.go) or writes it into a kexec
// buffer (fill.go).
package ledger

import (
	"context"
	"fmt"
	"hash"
	"io/fs"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// A Ledger is the list of the present boot. The body was confirmed by the PCR and never
// changes again. Behind it come the tail, which the kernel listed since, and what is
// open: journaled by user space and not seen in the PCR yet.
type Ledger struct {
	Source
	values func(context.Context) (imalog.Values, error) // nil values: no PCR to be had
	list   *imalog.Follower

	body    []byte // settled records, encoded as in the list
	records int    // in body
	own     []span // where those of user space lie in body, in order
	state   *imalog.Replayer

	tail        []byte
	tailRecords int
	open        []events.Entry
	placed      map[uint64]bool // by Seq: journaled and settled

	kernel Kernel

	want  imalog.Values // the PCR as it was last read
	proof Status        // of the list as it was first read
	drift string        // why what came later does not replay; "": it does
	modes bool          // state's way of extending each bank is the kernel's, not a guess

	filled int // so much of body is already in the kexec buffer
	cut    int // records that the last fill left out
}

// A Source is where a Ledger reads.
type Source struct {
	FS     fs.FS
	PCR    uint32
	Hashes map[uint16]func() hash.Hash // beside those of the standard library

	// TPM has the PCR; nil: it is read from the kernel's files.
	TPM transport.TPM

	// Quote, when not nil, are the values to prove instead of the PCR's: what the list
	// has behind them is no fault.
	Quote imalog.Values

	// StateDir holds the journal of what user space measured in the boot.
	StateDir, BootID string
}

// A Status says what the PCR has to say of a list: see handover.Proof.
type Status struct {
	Proved bool
	Banks  []uint16
	Since  int
	Reason string
}

// span is a record's place in an encoded list.
type span struct{ start, end int }

// Open reads the whole list and settles it.
func Open(ctx context.Context, s Source) (*Ledger, error) {
	l := &Ledger{Source: s, values: s.reader(), list: imalog.Live(s.FS, nil), placed: map[uint64]bool{}}
	if err := l.Settle(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Ledger) Close() error { return l.list.Close() }

// Pause closes the list and keeps the place: while somebody reads it, Linux 7.2
// refuses to delete records that were exported.
func (l *Ledger) Pause() error { return l.list.Pause() }

// Status says what the PCR has to say of the whole list.
func (l *Ledger) Status() Status {
	if l.proof.Proved && l.drift != "" {
		return Status{Banks: l.proof.Banks, Since: l.records, Reason: l.drift}
	}
	return l.proof
}

// Pending is the number of the kernel's records that the PCR should confirm and
// did not yet.
func (l *Ledger) Pending() int {
	if l.state == nil || l.drift != "" {
		return 0
	}
	return l.tailRecords
}

// A TPM takes tens of milliseconds for an extend, and longer when others use it, so a
// PCR may stay behind the list for so many looks, and one that was read while it was
// extended may be puzzling for so many. Time is no measure: a machine that is short of
// CPU, or a TPM that makes a key, takes seconds for one look.
const (
	behindLooks   = 50
	puzzlingLooks = 10
	lookEvery     = 20 * time.Millisecond
)

// Settle reads what is new and moves it into the body as far as the PCR confirms
// it. Whether all was confirmed is in Status and Pending; the error is one of
// reading.
func (l *Ledger) Settle(ctx context.Context) error {
	var last string
	found := false
	for looks := 1; ; looks++ {
		before := l.kernel.Records
		if err := l.look(ctx); err != nil {
			return err
		}
		if l.want == nil {
			l.proof = Status{Reason: "there is no PCR that can be read and replayed"}
			return nil
		}
		moment := fmt.Sprint(l.kernel.Records, len(l.open), l.want)
		still := moment == last
		last = moment
		if !still {
			var err error
			if found, err = l.advance(ctx); err != nil {
				return err
			}
		}
		if found && l.covers(before) {
			if l.proof.Banks == nil {
				l.proof = Status{Proved: true, Banks: Banks(l.want)}
			}
			l.drift = ""
			return nil
		}
		// Either the PCR says something else, which two looks at one moment settle, or
		// it is behind, which more of them tell.
		if l.Quote != nil || l.drift != "" ||
			!found && (still || looks >= puzzlingLooks) || looks >= behindLooks {
			break
		}
		if before == 0 {
			continue // the first look at the list has nothing to compare with
		}
		if err := wait(ctx, lookEvery); err != nil {
			return err
		}
	}
	return l.unconfirmed(ctx, found)
}

// look reads the PCR, then the list, then the journal. IMA appends a record
// before it extends the PCR, and a Measurer journals one before it does: what the
// value stands for is then in one of the two.
func (l *Ledger) look(ctx context.Context) error {
	want, err := l.values(ctx)
	if err != nil {
		return fmt.Errorf("read PCR %d: %w", l.PCR, err)
	}
	l.want = want
	if err := l.read(ctx); err != nil {
		return err
	}
	entries, err := l.journaled()
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	l.open = slices.DeleteFunc(entries, func(e events.Entry) bool {
		return e.State == events.Dropped || l.placed[e.Seq]
	})
	return nil
}

// covers reports whether the body holds the kernel's records that were known
// before the PCR was read. Append and extend are one step for everybody else, so
// a PCR that stays behind them belongs to a kernel that does not extend it.
func (l *Ledger) covers(before int) bool {
	return l.Quote != nil || before > 0 && l.kernel.Records-l.tailRecords >= before
}

// unconfirmed takes note that the PCR does not lead to the list. From the first
// look on it is carried as it is, and what comes later is proved from the PCR's
// present value; later it is a drift.
func (l *Ledger) unconfirmed(ctx context.Context, behind bool) error {
	reason := fmt.Sprintf("PCR %d was extended with something that is not in the list, after record %d", l.PCR, l.records-1)
	if behind {
		reason = fmt.Sprintf("PCR %d stays behind the list: this kernel does not extend it", l.PCR)
	}
	if l.proof.Banks != nil {
		l.drift = reason
		return nil
	}
	rest, n, own := l.rest()
	l.body, l.records, l.own = append(l.body, rest...), l.records+n, append(l.own, own...)
	l.tail, l.tailRecords = nil, 0
	l.open = slices.DeleteFunc(l.open, func(e events.Entry) bool {
		l.placed[e.Seq] = e.State == events.Extended
		return l.placed[e.Seq]
	})
	var err error
	if l.proof, err = disproof(ctx, imalog.Records(l.body, nil), &imalog.ReplayOptions{PCR: l.PCR, Hashes: l.Hashes}, l.want); err != nil {
		return err
	}
	if behind {
		l.proof.Since, l.proof.Reason = 0, reason
	}
	l.state = imalog.NewReplayer(&imalog.ReplayOptions{
		PCR: l.PCR, Banks: Banks(l.want), Start: l.want, Hashes: l.Hashes, Padded: guessPadded(l.FS, l.want),
	})
	l.modes = false
	return nil
}

// rest is what lies behind the body, as it would be handed over now: the tail,
// with the extended records of user space by the count of the kernel's records
// that they were journaled with. Offsets are from the body's start.
func (l *Ledger) rest() (b []byte, records int, own []span) {
	open := slices.DeleteFunc(slices.Clone(l.open), func(e events.Entry) bool { return e.State != events.Extended })
	if len(open) == 0 {
		return l.tail, l.tailRecords, nil
	}
	put := func(e events.Entry) {
		start := len(l.body) + len(b)
		b, _ = e.Record.AppendBinary(b) // it was in a journal: it can be encoded
		own = append(own, span{start, len(l.body) + len(b)})
		records++
	}
	at := l.kernel.Records - l.tailRecords
	for rec := range imalog.Records(l.tail, nil) {
		for len(open) > 0 && open[0].Count <= at {
			put(open[0])
			open = open[1:]
		}
		b, _ = rec.AppendBinary(b) // it was read from the list
		records++
		at++
	}
	for _, e := range open {
		put(e)
	}
	return b, records, own
}

// Total is the number of records to hand over, and of the bytes that they have with
// the header of a kexec buffer.
func (l *Ledger) Total() (records int, size uint64) {
	b, n, _ := l.rest()
	return l.records + n, uint64(imalog.HeaderSize + len(l.body) + len(b))
}

// Counted is what an event that is measured now says of the list: Total, with the bytes
// as a kernel counts them. Left out is what the PCR should confirm and did not yet, since
// it may come to lie behind the event.
func (l *Ledger) Counted() (records int, size uint64) {
	_, n, own := l.rest()
	records, size = l.records+n, imalog.HeaderSize+l.kernel.Size
	for _, spans := range [][]span{l.own, own} {
		for _, s := range spans {
			size += uint64(s.end - s.start)
		}
	}
	if pending := l.Pending(); pending > 0 {
		records -= pending
		for rec := range imalog.Records(l.tail, nil) {
			size -= uint64(rec.KernelSize())
		}
	}
	return records, size
}

// Placed is the number of user space's records whose places the PCR has shown.
func (l *Ledger) Placed() int { return len(l.own) }

// Kernel is what the list tells of the running kernel.
func (l *Ledger) Kernel() *Kernel { return &l.kernel }

// Padded reports whether the kernel extends a bank with the padded SHA-1 digest, as
// far as the list has shown it.
func (l *Ledger) Padded(alg uint16) bool { return l.state != nil && l.state.Padded(alg) }

// journaled reads the journal anew, since other processes write to it; one that is
// not there is empty.
func (s *Source) journaled() ([]events.Entry, error) {
	j, err := events.OpenJournal(s.StateDir, &events.JournalOptions{BootID: s.BootID, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	return j.Entries(), nil
}

// wait sleeps, or ends with the context.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
