package ledger

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// reader returns what reads the values to prove: those of the quote, of the TPM that
// the caller holds, or of the kernel's files, which show the same
// (drivers/char/tpm/tpm-sysfs.c). Banks that cannot be replayed are left out; no values
// and no error mean that none is left.
func (s *Source) reader() func(context.Context) (imalog.Values, error) {
	read := func(context.Context) (imalog.Values, error) { return events.SysfsValues(s.FS, s.PCR) }
	switch {
	case s.Quote != nil:
		read = func(context.Context) (imalog.Values, error) { return s.Quote, nil }
	case s.TPM != nil:
		read = (&events.Measurer{TPM: s.TPM, PCR: s.PCR}).Values
	}
	return func(ctx context.Context) (imalog.Values, error) {
		v, err := read(ctx)
		if errors.Is(err, events.ErrNoTPM) || errors.Is(err, events.ErrNoPCRFiles) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return replayable(v, s.Hashes)
	}
}

// replayable returns the values of the banks whose hash is known; the others are
// no hindrance to prove a list. Nil: there are none.
func replayable(v imalog.Values, hashes map[uint16]func() hash.Hash) (imalog.Values, error) {
	var out imalog.Values
	for alg, value := range v {
		if !HashKnown(alg, hashes) {
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

// HashKnown reports whether a bank can be replayed.
func HashKnown(alg uint16, hashes map[uint16]func() hash.Hash) bool {
	switch alg {
	case imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512:
		return true
	}
	return hashes[alg] != nil
}

// Banks returns the algorithms of values, in order.
func Banks(v imalog.Values) []uint16 {
	out := make([]uint16, 0, len(v))
	for alg := range v {
		out = append(out, alg)
	}
	slices.Sort(out)
	return out
}
