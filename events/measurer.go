package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/imalog"
)

// Errors of a Measurer.
var (
	ErrNoJournal = errors.New("a measurer needs a journal")
	ErrRecord    = errors.New("record that a kernel would not have made")
	ErrNoEffect  = errors.New("the TPM answered success and left the PCR as it was")
)

// Outcome says whether a record is in the PCR.
type Outcome uint8

const (
	// NotDone: the PCR is as it was. Where that was read after the way to the TPM had
	// failed, the command may still be under way: the journal keeps the record
	// unsettled, for Splice, and to measure it again may extend it twice.
	NotDone Outcome = iota
	// Done: the record was extended, once.
	Done
	// Unknown: the TPM or the way to it failed, and the PCR does not tell. The
	// journal keeps the record unsettled, for Splice.
	Unknown
)

func (o Outcome) String() string {
	switch o {
	case NotDone:
		return "not done"
	case Done:
		return "done"
	}
	return "unknown"
}

// A Measurer extends records of user space into a PCR beside the kernel, so
// that both replay alike. The fields are set before first use and then left
// alone; it is then safe for concurrent use, and one measures at a time.
type Measurer struct {
	// TPM is a TPM 2.0: /dev/tpmrm0, /dev/tpm0, or any other transport.
	TPM transport.TPM
	// PCR is the register of the records. 0: 10.
	PCR uint32
	// Padded tells the banks in which the running kernel, for want of the hash,
	// extends the SHA-1 digest padded with zeros: imalog.Replayer.Padded knows
	// it from the list. Nil: none.
	Padded func(alg uint16) bool
	// Hashes adds hashes that the standard library lacks, such as SM3, as in
	// imalog.ReplayOptions.
	Hashes map[uint16]func() hash.Hash
	// LeaveOut lists banks that are not extended. Such a bank replays no more
	// from then on; the others do.
	LeaveOut []uint16
	// Journal is written before the TPM is. Values alone needs none.
	Journal *Journal
	// Patience is how long a busy TPM is waited for. 0: 20 s.
	Patience time.Duration

	mu        sync.Mutex
	allocated []uint16
}

// Measured is what a measurement did.
type Measured struct {
	Outcome Outcome
	Before  imalog.Values // the PCR before the extend
	After   imalog.Values // the PCR after it, nil where it could not be read
	Entry   Entry         // as it is in the journal; Seq 0: it did not get there
}

// MeasureError tells at which step a measurement failed and what its outcome
// is.
type MeasureError struct {
	Measured
	Step string // "record", "banks", "read", "journal", "extend"
	Err  error
}

func (e *MeasureError) Error() string {
	return fmt.Sprintf("events: measure: %s: %v (%s)", e.Step, e.Err, e.Outcome)
}

func (e *MeasureError) Unwrap() error { return e.Err }

func (m *Measurer) pcr() uint32 {
	if m.PCR == 0 {
		return imalog.DefaultPCR
	}
	return m.PCR
}

// Measure extends a record into the PCR: it reads the PCR, appends the record
// to the journal and syncs it, extends all banks with one TPM2_PCR_Extend, and
// reads the PCR again. count is the number of records in the kernel's list.
//
// The record must be one that NewRecord could have made for this PCR. Each bank
// gets its template digest, or the SHA-1 one padded where Padded says so. A bank
// whose hash is not known, is not padded and not left out is an error before
// anything is written (ErrBank): to pad it without being told could break a bank
// that the kernel hashes.
//
// The record is never extended twice. A TPM that says it is busy did nothing
// and is asked again for Patience; one that answers an error did nothing. When
// the transport fails in the middle, the PCR is read: as before means NotDone,
// extended by this record alone means Done and is no error, anything else
// Unknown. Every error is a *MeasureError; the Measured is returned with it.
func (m *Measurer) Measure(ctx context.Context, rec *imalog.Record, count int) (*Measured, error) {
	if m.Journal == nil {
		return m.fail(Measured{}, "journal", ErrNoJournal)
	}
	if err := m.check(rec); err != nil {
		return m.fail(Measured{}, "record", err)
	}
	select {
	case m.Journal.measure <- struct{}{}:
		defer func() { <-m.Journal.measure }()
	case <-ctx.Done():
		return m.fail(Measured{}, "journal", ctx.Err())
	}

	banks, err := m.banks(ctx)
	if err != nil {
		return m.fail(Measured{}, "banks", err)
	}
	for try := 1; ; try++ {
		last, err := m.Journal.last()
		if err != nil {
			return m.fail(Measured{}, "journal", err)
		}
		var done Measured
		if done.Before, err = m.reader().read(ctx, banks); err != nil {
			return m.fail(done, "read", err)
		}
		digests, err := m.digests(rec, banks, done.Before)
		if err != nil {
			return m.fail(done, "banks", err)
		}
		entry := Entry{Record: rec.Clone(), Count: count, Before: done.Before, Time: time.Now().UTC()}
		entry.Seq, err = m.Journal.appendBehind(entry, last)
		if errors.Is(err, errOvertaken) && try < overtakings {
			continue // Before would be that of somebody else's record
		}
		if err != nil {
			return m.fail(done, "journal", err)
		}
		done.Entry = entry
		return m.settle(ctx, done, banks, digests)
	}
}

// overtakings bounds how often others may measure between the reading of the PCR and
// the journal.
const overtakings = 16

// settle extends, finds out what came of it, and tells the journal. What the
// journal cannot write of it now it owes, and without it Splice decides.
func (m *Measurer) settle(ctx context.Context, done Measured, banks []uint16, digests []tpm2.TPMTHA) (*Measured, error) {
	err := m.reader().patiently(ctx, func() error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(m.pcr()), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: digests},
		}.Execute(m.TPM)
		return err
	})
	var rc tpm2.TPMRC
	var unsent *unsentError
	if errors.As(err, &rc) || errors.As(err, &unsent) {
		done.Entry.State = Dropped
		m.Journal.Settle(done.Entry.Seq, Dropped, nil)
		return m.fail(done, "extend", err)
	}
	// From here on the PCR has to be read, whatever becomes of the caller.
	after, readErr := m.reader().read(context.WithoutCancel(ctx), banks)
	done.After = after
	switch {
	case err == nil && readErr == nil && after.Equal(done.Before):
		done.Entry.State = Dropped
		m.Journal.Settle(done.Entry.Seq, Dropped, nil)
		return m.fail(done, "extend", ErrNoEffect)
	case err == nil || (readErr == nil && m.follows(after, done.Before, digests)):
		done.Outcome = Done
		done.Entry.State, done.Entry.After = Extended, after
		m.Journal.Settle(done.Entry.Seq, Extended, after)
		return &done, nil
	case readErr != nil:
		done.Outcome = Unknown
		err = fmt.Errorf("%w; and the PCR cannot be read: %w", err, readErr)
	case !after.Equal(done.Before):
		done.Outcome = Unknown
	}
	// A transport that failed may still deliver the command, so the entry of a
	// record that was not extended stays for Splice to judge, too.
	m.Journal.Settle(done.Entry.Seq, Unsettled, nil)
	return m.fail(done, "extend", err)
}

func (m *Measurer) fail(done Measured, step string, err error) (*Measured, error) {
	return &done, &MeasureError{Measured: done, Step: step, Err: err}
}

// check refuses a record that would not replay.
func (m *Measurer) check(rec *imalog.Record) error {
	if rec.PCR != m.pcr() {
		return fmt.Errorf("%w: it is for PCR %d, not %d", ErrRecord, rec.PCR, m.pcr())
	}
	if rec.Template == "ima" {
		return fmt.Errorf("%w: no kernel restores template ima", ErrRecord)
	}
	sha1, err := rec.AppendDigest(nil, imalog.AlgSHA1)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if !bytes.Equal(sha1, rec.Digest) {
		return fmt.Errorf("%w: its digest is not the SHA-1 of its data", ErrRecord)
	}
	return nil
}

// digests returns what each bank is extended with. The length of a digest is
// that of the PCR, which is right for unknown algorithms too.
func (m *Measurer) digests(rec *imalog.Record, banks []uint16, before imalog.Values) ([]tpm2.TPMTHA, error) {
	var out []tpm2.TPMTHA
	for _, alg := range banks {
		if slices.Contains(m.LeaveOut, alg) {
			continue
		}
		d := make([]byte, len(before[alg]))
		if m.Padded != nil && m.Padded(alg) {
			copy(d, rec.Digest)
		} else {
			h := m.hash(alg)
			if h == nil || h.Size() != len(d) {
				return nil, fmt.Errorf("%w: no hash for bank %s: add it to Measurer.Hashes, or leave the bank out", ErrBank, bankName(alg))
			}
			h.Write(rec.Data)
			d = h.Sum(d[:0])
		}
		out = append(out, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(alg), Digest: d})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: all banks are left out", ErrBank)
	}
	return out, nil
}

func (m *Measurer) hash(alg uint16) hash.Hash {
	if h := m.Hashes[alg]; h != nil {
		return h()
	}
	return newHash(alg)
}

// follows reports whether after is before extended by digests and by nothing
// else. Where the hash of a bank is not known, that it moved has to do.
func (m *Measurer) follows(after, before imalog.Values, digests []tpm2.TPMTHA) bool {
	want := before.Clone()
	for _, d := range digests {
		alg := uint16(d.HashAlg)
		h := m.hash(alg)
		if h == nil {
			if bytes.Equal(after[alg], before[alg]) {
				return false
			}
			want[alg] = after[alg]
			continue
		}
		h.Write(before[alg])
		h.Write(d.Digest)
		want[alg] = h.Sum(nil)
	}
	return after.Equal(want)
}
