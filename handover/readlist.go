package handover

import (
	"context"
	"iter"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/ledger"
)

// List is the measurement list of the present boot as the PCR has it.
type List struct {
	// Binary holds the records as binary_runtime_measurements would, SHA-1
	// template digests, little-endian. When the list is proved it ends where the
	// PCR's value is reached.
	Binary []byte

	// Count is the number of records in Binary.
	Count int

	// Own holds the indices of the records that user space measured in this boot
	// and that the kernel's list lacks.
	Own []int

	// Later is the number of records that were measured after the values which
	// the list proves, and are not in Binary.
	Later int

	// Values of the PCR that the list was compared with; nil when there are none.
	Values imalog.Values

	// Proof says whether the list replays to them.
	Proof Proof
}

// Records returns the records of the list; they alias Binary.
func (l *List) Records() iter.Seq2[imalog.Record, error] { return imalog.Records(l.Binary, nil) }

// ReadList returns the list that the PCR proves, or the values of a quote
// (ReadOptions.Values): the kernel's records, with those that user space
// measured and journaled in the places where they belong. It writes nothing and
// may be called at any moment by any process that may read the list and the state
// directory of whoever called Load: as root, mostly.
//
// A list that does not replay is returned as it is; see List.Proof. The error is
// ErrNoList when there is no list.
func ReadList(ctx context.Context, opts *ReadOptions) (*List, error) {
	o := opts.withDefaults()
	list, step, err := readList(ctx, &o)
	if err != nil {
		return nil, &OpError{Op: "read list", Step: step, Err: err}
	}
	return list, nil
}

func readList(ctx context.Context, o *ReadOptions) (_ *List, step string, err error) {
	fsys := o.System.FS()
	boot, err := bootID(fsys)
	if err != nil {
		return nil, "boot id", err
	}
	l, err := ledger.Open(ctx, ledger.Source{
		FS: fsys, PCR: o.PCR, Hashes: o.Hashes, TPM: o.TPM, Quote: o.Values,
		StateDir: o.StateDir, BootID: boot,
	})
	if err != nil {
		return nil, "read", err
	}
	defer l.Close()
	list := l.List()
	return &List{
		Binary: list.Binary, Count: list.Count, Own: list.Own, Later: list.Later,
		Values: list.Values, Proof: Proof(list.Status),
	}, "", nil
}
