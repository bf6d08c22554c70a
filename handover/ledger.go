package handover

import (
	"context"
	"fmt"
	"hash"
	"io/fs"
	"slices"
	"time"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// A ledger is the list as it has to be handed over: the kernel's records, read
// once and then followed, with the records that user space measured in the
// places where the PCR proves that they belong.
//
// The body was confirmed by the PCR and never changes again. Behind it come the
// tail, which the kernel listed since, and what is open: journaled by user space
// and not seen in the PCR yet.
type ledger struct {
	source
	list *imalog.Follower

	body    []byte // settled records, encoded as in the list
	records int    // in body
	own     []span // where those of user space lie in body, in order
	state   *imalog.Replayer

	tail        []byte
	tailRecords int
	open        []events.Entry
	placed      map[uint64]bool // by Seq: journaled and settled

	kernel kernelFacts

	want  imalog.Values // the PCR as it was last read
	proof Proof         // of the list as it was first read
	drift string        // why what came later does not replay; "": it does
	modes bool          // state's way of extending each bank is the kernel's, not a guess

	filled int // so much of body is already in the kexec buffer
	cut    int // records that the last fill left out
}

// source is where a ledger reads.
type source struct {
	fsys    fs.FS
	pcr     uint32
	hashes  map[uint16]func() hash.Hash
	values  func(context.Context) (imalog.Values, error) // nil values: no PCR to be had
	journal func() ([]events.Entry, error)
	quote   bool // values are those of a quote: what the list has behind them is no fault
}

// span is a record's place in an encoded list.
type span struct{ start, end int }

// openLedger reads the whole list and settles it.
func openLedger(ctx context.Context, s source) (*ledger, error) {
	l := &ledger{source: s, list: imalog.Live(s.fsys, nil), placed: map[uint64]bool{}}
	if err := l.settle(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *ledger) close() error { return l.list.Close() }

// pause closes the list and keeps the place: while somebody reads it, Linux 7.2
// refuses to delete records that were exported.
func (l *ledger) pause() error { return l.list.Pause() }

// status says what the PCR has to say of the whole list.
func (l *ledger) status() Proof {
	if l.proof.Proved && l.drift != "" {
		return Proof{Banks: l.proof.Banks, Since: l.records, Reason: l.drift}
	}
	return l.proof
}

// pending is the number of the kernel's records that the PCR should confirm and
// did not yet.
func (l *ledger) pending() int {
	if l.state == nil || l.drift != "" {
		return 0
	}
	return l.tailRecords
}

// How long a PCR may stay behind the list: a TPM takes tens of milliseconds for
// an extend, and longer when others use it.
const (
	behindFor = time.Second
	lookEvery = 20 * time.Millisecond
)

// settle reads what is new and moves it into the body as far as the PCR confirms
// it. Whether all was confirmed is in status and pending; the error is one of
// reading.
func (l *ledger) settle(ctx context.Context) error {
	deadline := time.Now().Add(behindFor)
	var last string
	found := false
	for {
		before := l.kernel.records
		if err := l.look(ctx); err != nil {
			return err
		}
		if l.want == nil {
			l.proof = Proof{Reason: "there is no PCR that can be read and replayed"}
			return nil
		}
		moment := fmt.Sprint(l.kernel.records, len(l.open), l.want)
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
				l.proof = Proof{Proved: true, Banks: banks(l.want)}
			}
			l.drift = ""
			return nil
		}
		// Either the PCR says something else, which two looks at one moment settle, or
		// it is behind, which time tells.
		if l.quote || l.drift != "" || still && !found || time.Now().After(deadline) {
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
func (l *ledger) look(ctx context.Context) error {
	want, err := l.values(ctx)
	if err != nil {
		return fmt.Errorf("read PCR %d: %w", l.pcr, err)
	}
	l.want = want
	if err := l.read(ctx); err != nil {
		return err
	}
	entries, err := l.journal()
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
func (l *ledger) covers(before int) bool {
	return l.quote || before > 0 && l.kernel.records-l.tailRecords >= before
}

// unconfirmed takes note that the PCR does not lead to the list. From the first
// look on it is carried as it is, and what comes later is proved from the PCR's
// present value; later it is a drift.
func (l *ledger) unconfirmed(ctx context.Context, behind bool) error {
	reason := fmt.Sprintf("PCR %d was extended with something that is not in the list, after record %d", l.pcr, l.records-1)
	if behind {
		reason = fmt.Sprintf("PCR %d stays behind the list: this kernel does not extend it", l.pcr)
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
	if l.proof, err = disproof(ctx, imalog.Records(l.body, nil), &imalog.ReplayOptions{PCR: l.pcr, Hashes: l.hashes}, l.want); err != nil {
		return err
	}
	if behind {
		l.proof.Since, l.proof.Reason = 0, reason
	}
	l.state = imalog.NewReplayer(&imalog.ReplayOptions{
		PCR: l.pcr, Banks: banks(l.want), Start: l.want, Hashes: l.hashes, Padded: guessPadded(l.fsys, l.want),
	})
	l.modes = false
	return nil
}

// rest is what lies behind the body, as it would be handed over now: the tail,
// with the extended records of user space by the count of the kernel's records
// that they were journaled with. Offsets are from the body's start.
func (l *ledger) rest() (b []byte, records int, own []span) {
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
	at := l.kernel.records - l.tailRecords
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

// total is the number of records to hand over, and of their bytes.
func (l *ledger) total() (records int, size uint64) {
	b, n, _ := l.rest()
	return l.records + n, uint64(len(l.body) + len(b))
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
