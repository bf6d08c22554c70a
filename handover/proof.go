package handover

import (
	"context"
	"errors"
	"fmt"
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
	// replay: that of the boot_aggregate, or the kexec_execute, before which records
	// are missing by what the events say (events.Audit); 0 when nothing is known. A
	// PCR proves a list and cannot say where one is broken, so this is inferred.
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
func disproof(ctx context.Context, list iter.Seq2[imalog.Record, error], pcr uint32, want imalog.Values) (Proof, error) {
	audit, err := events.Audit(ctx, list, &events.AuditOptions{Want: want, Replay: &imalog.ReplayOptions{PCR: pcr}})
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Banks: banks(want), Reason: fmt.Sprintf("PCR %d was extended before the first record, or by something that is not in the list", pcr)}
	if len(audit.Boundaries) > 0 && audit.Boundaries[0].Verdict == events.Headless {
		p.Reason = "the list's oldest records were deleted"
	}
	for _, b := range slices.Backward(audit.Boundaries) {
		if l := b.Loss; l != nil {
			p.Since = l.Before
			p.Reason = fmt.Sprintf("%s are missing between records %d and %d", lostRecords(l.Records), l.After, l.Before)
			break
		}
	}
	return p, nil
}

func lostRecords(n uint64) string {
	if n == 0 {
		return "records"
	}
	return fmt.Sprintf("%d records", n)
}

// pcrReader reads the PCR that IMA extends in every bank this package can
// replay. No values and no error: there is no PCR to be read.
type pcrReader func(context.Context) (imalog.Values, error)

// readerOf prefers the TPM that the caller holds and falls back on the kernel's
// files, which show the same without TPM access (drivers/char/tpm/tpm-sysfs.c).
func readerOf(tpm transport.TPM, fsys fs.FS, pcr uint32) pcrReader {
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
		return replayable(v)
	}
}

// fixed answers with the values of a quote.
func fixed(v imalog.Values) pcrReader {
	return func(context.Context) (imalog.Values, error) { return replayable(v) }
}

// replayable drops the banks whose hash the standard library lacks; the others
// prove the list as well.
func replayable(v imalog.Values) (imalog.Values, error) {
	out := make(imalog.Values, len(v))
	for alg, value := range v {
		switch alg {
		case imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512:
			if len(value) != imalog.AlgSize(alg) {
				return nil, fmt.Errorf("PCR value of bank %s has %d bytes, not %d",
					imalog.AlgName(alg), len(value), imalog.AlgSize(alg))
			}
			out[alg] = value
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no PCR bank that can be replayed (sha1, sha256, sha384, sha512)")
	}
	return out, nil
}
