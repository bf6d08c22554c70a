package ledger

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"slices"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// PCRValues reads the PCR from the TPM that the caller holds, or from the
// kernel's files, which show the same (drivers/char/tpm/tpm-sysfs.c). Banks that
// cannot be replayed are left out; no values and no error mean that none is left.
func PCRValues(tpm transport.TPM, fsys fs.FS, pcr uint32, hashes map[uint16]func() hash.Hash) func(context.Context) (imalog.Values, error) {
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

// QuotedValues answers with the values of a quote.
func QuotedValues(v imalog.Values, hashes map[uint16]func() hash.Hash) func(context.Context) (imalog.Values, error) {
	return func(context.Context) (imalog.Values, error) { return replayable(v, hashes) }
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
