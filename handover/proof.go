package handover

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// Proof says what the PCR has to say of a list.
type Proof struct {
	// Proved says that the list replays to the PCR in every bank of Banks.
	Proved bool

	// Banks holds the algorithms (TPM_ALG_ID) that were compared. It is empty
	// when no PCR could be read: then nothing can be proved, or disproved.
	Banks []uint16

	// Since is the index of the first record behind the gap when the list does not
	// replay: where Load or Seal saw it break, or where by its events records are
	// missing (events.Audit); 0 when nothing is known. A PCR proves a list and
	// cannot say where one is broken, so this is inferred.
	Since int

	// Reason is a sentence for people when Proved is false.
	Reason string
}

func (p Proof) String() string {
	if !p.Proved {
		return "not proved: " + p.Reason
	}
	names := make([]string, len(p.Banks))
	for i, alg := range p.Banks {
		names[i] = imalog.AlgName(alg)
	}
	return "replays to the PCR in " + strings.Join(names, ", ")
}

// disproof finds what can be said of a list that does not replay to want.
func disproof(ctx context.Context, list iter.Seq2[imalog.Record, error], replay *imalog.ReplayOptions, want imalog.Values) (Proof, error) {
	audit, err := events.Audit(ctx, list, &events.AuditOptions{Want: want, Replay: replay})
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Banks: banks(want), Reason: fmt.Sprintf("PCR %d was extended before the first record, or by something that is not in the list", replay.PCR)}
	if len(audit.Boundaries) > 0 && audit.Boundaries[0].Verdict == events.Headless {
		p.Reason = "the list's oldest records were deleted"
		return p, nil
	}
	for _, b := range slices.Backward(audit.Boundaries) {
		if l := b.Loss; l != nil {
			p.Since = l.Before
			p.Reason = fmt.Sprintf("%s missing between records %d and %d", lostRecords(l.Records), l.After, l.Before)
			break
		}
	}
	return p, nil
}

func lostRecords(n uint64) string {
	switch n {
	case 0:
		return "records are"
	case 1:
		return "1 record is"
	}
	return fmt.Sprintf("%d records are", n)
}

// pcrValues reads the PCR from the TPM that the caller holds, or from the
// kernel's files, which show the same (drivers/char/tpm/tpm-sysfs.c). Banks that
// cannot be replayed are left out; no values and no error mean that none is left.
func pcrValues(tpm transport.TPM, fsys fs.FS, pcr uint32, hashes map[uint16]func() hash.Hash) func(context.Context) (imalog.Values, error) {
	read := func(context.Context) (imalog.Values, error) { return events.SysfsValues(fsys, pcr) }
	if tpm != nil {
		read = (&events.Measurer{TPM: tpm, PCR: pcr}).Values
	}
	return func(ctx context.Context) (imalog.Values, error) {
		v, err := read(ctx)
		if errors.Is(err, events.ErrNoTPM) || errors.Is(err, events.ErrNoPCRFiles) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return replayable(v, hashes)
	}
}

// quotedValues answers with the values of a quote.
func quotedValues(v imalog.Values, hashes map[uint16]func() hash.Hash) func(context.Context) (imalog.Values, error) {
	return func(context.Context) (imalog.Values, error) { return replayable(v, hashes) }
}

// replayable returns the values of the banks whose hash is known; the others are
// no hindrance to prove a list. Nil: there are none.
func replayable(v imalog.Values, hashes map[uint16]func() hash.Hash) (imalog.Values, error) {
	var out imalog.Values
	for alg, value := range v {
		if !hashKnown(alg, hashes) {
			continue
		}
		if size := imalog.AlgSize(alg); size != len(value) {
			return nil, fmt.Errorf("PCR value of bank %s has %d bytes, not %d", imalog.AlgName(alg), len(value), size)
		}
		if out == nil {
			out = imalog.Values{}
		}
		out[alg] = value
	}
	return out, nil
}

func hashKnown(alg uint16, hashes map[uint16]func() hash.Hash) bool {
	switch alg {
	case imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512:
		return true
	}
	return hashes[alg] != nil
}

func banks(v imalog.Values) []uint16 {
	out := make([]uint16, 0, len(v))
	for alg := range v {
		out = append(out, alg)
	}
	slices.Sort(out)
	return out
}
