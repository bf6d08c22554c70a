package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// A ledger is the list as it has to be handed over: the kernel's records, read
// once and then followed, with the records that user space measured in the
// places where the PCR proves that they belong.
//
// The settled part was confirmed by the PCR and never changes again. What
// follows it was read and waits for the next settle; a user-space record enters
// the body only when it is settled.
type ledger struct {
	values pcrReader
	pcr    uint32
	list   *imalog.Follower

	body          []byte // the records, encoded as in the list
	records       int    // records in body
	kernel        int    // of them the kernel's
	kernelBytes   int    // of body the kernel's
	kernelSegment uint64 // kexec_segment_size of the kernel's own last kexec_load
	critical      bool   // the present kernel measures critical data
	own           []span // where those of user space lie, in order
	alg           uint16 // of the digests in the kernel's records (ima_hash=); 0: not seen

	settled  mark
	unplaced []events.Entry // measured by user space, not yet in body
	seq      uint64         // the last journal entry that was taken

	want   imalog.Values // the PCR that the list was first compared with
	proof  Proof
	adrift bool // the PCR went somewhere the list does not lead to

	filled int // so much of body is already in the kexec buffer
	cut    int // records that the last fill left out
}

type mark struct {
	bytes   int
	records int
	state   *imalog.Replayer // nil: there is no PCR to settle against
}

type span struct{ start, end int }

// openLedger reads the whole list and settles it, with what the journal holds
// of this boot.
func openLedger(ctx context.Context, fsys fs.FS, pcr uint32, values pcrReader, journal []events.Entry) (*ledger, error) {
	l := &ledger{values: values, pcr: pcr, list: imalog.Live(fsys, nil)}
	l.take(journal)
	if err := l.begin(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// take notes what the journal holds that was not taken before.
func (l *ledger) take(journal []events.Entry) {
	for _, e := range journal {
		if e.Seq > l.seq && e.State != events.Dropped {
			l.unplaced = append(l.unplaced, e)
		}
		l.seq = max(l.seq, e.Seq)
	}
}

func (l *ledger) close() error { return l.list.Close() }

// pause closes the list and keeps the place: while somebody reads it, Linux 7.2
// refuses to delete records that were exported.
func (l *ledger) pause() error { return l.list.Pause() }

// begin finds the first settled mark: the replay of the list up to what the PCR
// showed just before, or, where the list does not replay, the PCR itself.
func (l *ledger) begin(ctx context.Context) error {
	var want imalog.Values
	for try := 0; ; try++ {
		var err error
		// The PCR first: IMA appends a record before it extends the PCR, so a list
		// read afterwards holds everything that the value stands for.
		if want, err = l.values(ctx); err != nil {
			return fmt.Errorf("read PCR %d: %w", l.pcr, err)
		}
		if err := l.read(); err != nil {
			return err
		}
		if want == nil {
			l.proof = Proof{Reason: "there is no TPM whose PCR could be read"}
			err := l.append(l.unplaced...)
			l.unplaced = nil
			return err
		}
		proved, err := l.prove(ctx, want)
		if err != nil {
			return err
		}
		l.want = want
		if proved {
			l.proof = Proof{Proved: true, Banks: banks(want)}
			return nil
		}
		if try == settleTries-1 {
			break
		}
		if err := wait(ctx); err != nil {
			return err
		}
	}
	return l.anchor(ctx, want)
}

// prove settles the list up to want. The kernel's records replay by themselves up
// to what the PCR held before the first record of user space, and from there
// with them; or, where want is a quote from before that, without them.
func (l *ledger) prove(ctx context.Context, want imalog.Values) (bool, error) {
	if len(l.unplaced) > 0 && len(l.unplaced[0].Before) > 0 {
		before, err := replayable(l.unplaced[0].Before)
		if err != nil {
			return false, fmt.Errorf("journal: %w", err)
		}
		found, err := l.verify(ctx, before)
		if err != nil {
			return false, err
		}
		if found {
			err := l.splice(ctx, want)
			if err == nil || !errors.Is(err, ErrNotProved) {
				return err == nil, err
			}
		}
	}
	return l.verify(ctx, want)
}

// verify settles the longest prefix of the kernel's list that replays to want.
func (l *ledger) verify(ctx context.Context, want imalog.Values) (bool, error) {
	list, n := l.body, l.records
	for {
		res, err := imalog.Verify(ctx, imalog.Records(list, nil), want, &imalog.ReplayOptions{PCR: l.pcr, Banks: banks(want)})
		if err != nil {
			return false, err
		}
		if res.Matched() {
			l.settled = mark{bytes: len(list), records: n, state: res.End}
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

// anchor settles a list that does not replay: it is carried as it is, and what
// is measured from now on is still proved, from the PCR's present value.
func (l *ledger) anchor(ctx context.Context, want imalog.Values) error {
	var err error
	if l.proof, err = disproof(ctx, imalog.Records(l.body, nil), l.pcr, want); err != nil {
		return err
	}
	for range settleTries {
		before := l.records
		if want, err = l.values(ctx); err != nil {
			return fmt.Errorf("read PCR %d: %w", l.pcr, err)
		}
		if err := l.read(); err != nil {
			return err
		}
		if l.records == before {
			break
		}
	}
	if err := l.append(l.unplaced...); err != nil {
		return err
	}
	l.unplaced = nil
	l.settled = mark{
		bytes: len(l.body), records: l.records,
		state: imalog.NewReplayer(&imalog.ReplayOptions{PCR: l.pcr, Banks: banks(want), Start: want}),
	}
	return nil
}

// read takes over what the kernel has added to its list.
func (l *ledger) read() error {
	for {
		rec, err := l.list.Next()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: build the kernel with CONFIG_IMA, or mount securityfs on /sys/kernel/security: %w", ErrNoList, err)
		}
		if err != nil {
			return err
		}
		start := len(l.body)
		if l.body, err = rec.AppendBinary(l.body); err != nil {
			return err
		}
		l.records++
		l.kernel++
		l.kernelBytes += len(l.body) - start
		l.notice(rec)
	}
}

// notice keeps what the kernel's records tell of the kernel itself.
func (l *ledger) notice(rec *imalog.Record) {
	switch buf := rec.Buf(); {
	case rec.BootAggregate():
		l.critical, l.kernelSegment = false, 0
		if alg, ok := digestAlg(rec); ok {
			l.alg = alg
		}
	case buf == nil:
	case rec.Name() == "kernel_version": // label kernel_info, measured at every boot
		l.critical = true
	case rec.Name() == events.KexecLoad:
		if f, err := events.ParseFigures(buf); err == nil {
			l.kernelSegment = f.SegmentSize
		}
	}
}

// settle reads what is new and moves the settled mark as far as the PCR
// confirms it, putting what user space measured into its place. Its error is
// ErrNotProved when the PCR holds something that the list does not.
func (l *ledger) settle(ctx context.Context) error {
	for try := 0; ; try++ {
		want, err := l.values(ctx)
		if err != nil {
			return fmt.Errorf("read PCR %d: %w", l.pcr, err)
		}
		if err := l.read(); err != nil {
			return err
		}
		if l.settled.state == nil || l.adrift {
			err := l.append(l.unplaced...)
			l.unplaced = nil
			return err
		}
		err = l.splice(ctx, want)
		if err == nil || !errors.Is(err, ErrNotProved) {
			return err
		}
		if try == settleTries-1 {
			l.adrift = true
			since := l.settled.records
			if l.proof.Proved {
				l.proof = Proof{Banks: banks(want), Since: since,
					Reason: fmt.Sprintf("PCR %d was extended with something that is not in the list, after record %d", l.pcr, since-1)}
			}
			return err
		}
		if err := wait(ctx); err != nil {
			return err
		}
	}
}

// pending is the number of records that the PCR has not confirmed yet.
func (l *ledger) pending() int {
	if l.settled.state == nil || l.adrift {
		return 0
	}
	return l.records - l.settled.records + len(l.unplaced)
}

// splice rebuilds the unsettled tail with the user-space records in it.
func (l *ledger) splice(ctx context.Context, want imalog.Values) error {
	tail := slices.Clone(l.body[l.settled.bytes:])
	var kernel []imalog.Record
	for rec, err := range imalog.Records(tail, nil) {
		if err != nil {
			return err
		}
		kernel = append(kernel, rec)
	}
	found, err := events.Splice(ctx, l.settled.state, kernel, l.unplaced, want, nil)
	if errors.Is(err, events.ErrNoPlace) || errors.Is(err, events.ErrAmbiguous) {
		return fmt.Errorf("%w: %w", ErrNotProved, err)
	}
	if err != nil {
		return err
	}

	l.filled = min(l.filled, l.settled.bytes)
	l.body = l.body[:l.settled.bytes]
	l.records = l.settled.records
	placed := 0
	for i := 0; ; i++ {
		for placed < len(found.At) && found.At[placed] <= i {
			if found.At[placed] >= 0 {
				if err := l.append(l.unplaced[placed]); err != nil {
					return err
				}
			}
			placed++
		}
		if i == found.Kernel {
			l.settled = mark{bytes: len(l.body), records: l.records, state: found.End}
		}
		if i == len(kernel) {
			break
		}
		if l.body, err = kernel[i].AppendBinary(l.body); err != nil {
			return err
		}
		l.records++
	}
	l.unplaced = l.unplaced[placed:]
	return nil
}

// padded reports whether the running kernel extends the SHA-1 digest, padded,
// into a bank, as it does when it lacks the bank's hash.
func (l *ledger) padded(alg uint16) bool {
	return l.settled.state != nil && l.settled.state.Padded(alg)
}

// digestAlg is the algorithm of a record's file digest: field d-ng or d-ngv2 comes
// first, "<alg>:" or "<type>:<alg>:", NUL, digest.
func digestAlg(rec *imalog.Record) (uint16, bool) {
	if len(rec.Data) < 4 {
		return 0, false
	}
	prefix, _, ok := bytes.Cut(rec.Data[4:], []byte{0})
	if !ok {
		return 0, false
	}
	names := strings.Split(strings.TrimSuffix(string(prefix), ":"), ":")
	return imalog.AlgByName(names[len(names)-1])
}

// append puts records of user space at the end of the body.
func (l *ledger) append(entries ...events.Entry) error {
	for _, e := range entries {
		start := len(l.body)
		b, err := e.Record.AppendBinary(l.body)
		if err != nil {
			return err
		}
		l.body = b
		l.own = append(l.own, span{start, len(l.body)})
		l.records++
	}
	return nil
}

const settleTries = 3

// wait gives time to whoever extends the PCR and journals it at this moment.
func wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

func banks(v imalog.Values) []uint16 {
	out := make([]uint16, 0, len(v))
	for alg := range v {
		out = append(out, alg)
	}
	slices.Sort(out)
	return out
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
