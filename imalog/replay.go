package imalog

import (
	"bytes"
	"context"
	"hash"
	"iter"
	"slices"
)

// DefaultPCR is the PCR that IMA measures into unless its configuration or a
// policy says otherwise.
const DefaultPCR = 10

// ReplayOptions say what is replayed and how. The zero value replays PCR 10 from
// zeros in the banks SHA-1 and SHA-256.
type ReplayOptions struct {
	// PCR is the index of the PCR; records of other PCRs are counted, not
	// replayed. Zero is PCR 10.
	PCR uint32
	// Banks are the banks to replay, by TPM_ALG_ID. Nil is SHA-1 and SHA-256; for
	// Verify it is the banks of the wanted values.
	Banks []uint16
	// Start are the PCR's values before the first record, for a list whose oldest
	// records were deleted; a bank that is not in it starts with zeros.
	Start Values
	// Padded are the banks whose hash the kernel of the first record lacks: it
	// extends them with the SHA-1 digest, padded with zeros.
	Padded []uint16
	// Hashes adds hashes that the standard library lacks, such as SM3, and may
	// replace the others.
	Hashes map[uint16]func() hash.Hash
	// Listed is the algorithm of the digests that are listed, which Verify checks.
	// Zero is the one that their size tells and, for SHA-256 and SM3, the first record
	// whose digest is right.
	Listed uint16
	// Workers is the number of goroutines that AddAll and Verify use, the
	// caller's among them. Zero is one more than there are banks, at most as many as
	// GOMAXPROCS. The result does not depend on it.
	Workers int
}

// A Replayer computes what a list extends into a PCR, in every bank in one pass,
// without an allocation for a record.
//
// A bank is hashed, extended with the template digest in its own hash, or
// padded; see SetPadded. A violation extends 0xff bytes in either.
type Replayer struct {
	opts  ReplayOptions
	pcr   uint32
	count int
	banks []bank
	ima   [imaDigestInput]byte // what the digest of template "ima" covers
}

// NewReplayer returns a Replayer before its first record. Banks of algorithms
// that AlgSize does not know, SM3 without a hash of its own, and banks with a
// Start of another size are left out: Values does not have them and Match is
// false for them.
func NewReplayer(opts *ReplayOptions) *Replayer {
	if opts == nil {
		opts = &ReplayOptions{}
	}
	r := &Replayer{pcr: opts.PCR, opts: *opts}
	if r.pcr == 0 {
		r.pcr = DefaultPCR
	}
	algs := opts.Banks
	if algs == nil {
		algs = []uint16{AlgSHA1, AlgSHA256}
	}
	r.banks = make([]bank, 0, len(algs))
	for _, alg := range algs {
		b := newBank(alg, opts.Hashes[alg])
		start, given := opts.Start[alg]
		if b.size == 0 || given && len(start) != b.size || r.bank(alg) != nil {
			continue
		}
		b.padded = alg != AlgSHA1 && slices.Contains(opts.Padded, alg)
		copy(b.value(), start)
		i := 0
		for i < len(r.banks) && r.banks[i].alg < alg {
			i++
		}
		r.banks = slices.Insert(r.banks, i, b)
	}
	return r
}

func (r *Replayer) bank(alg uint16) *bank {
	for i := range r.banks {
		if r.banks[i].alg == alg {
			return &r.banks[i]
		}
	}
	return nil
}

// Add extends the PCR with a record as the kernel did when it made it
// (security/integrity/ima/ima_queue.c: ima_add_template_entry). Only Data
// decides, not the digest that is listed, unless that says it is a violation. A
// record of another PCR is counted and skipped.
//
// An error means that there is no digest to extend, as for data that template
// "ima" cannot have; nothing has then changed.
func (r *Replayer) Add(rec *Record) error {
	if rec.PCR != r.pcr {
		r.count++
		return nil
	}
	if rec.Violation() {
		for i := range r.banks {
			b := &r.banks[i]
			b.violation()
			b.extend()
		}
		r.count++
		return nil
	}
	data := rec.Data
	if rec.Template == templateIMA {
		var err error
		if data, err = rec.digestInput(&r.ima); err != nil {
			return err
		}
	}
	for i := range r.banks {
		b := &r.banks[i]
		b.digest(data)
		b.extend()
	}
	r.count++
	return nil
}

// AddAll adds a whole list, with as many goroutines as ReplayOptions.Workers
// says. It reads ahead of what it has extended, so a record has to be valid only
// until the next one is yielded. The result is the same as that of an Add for
// each record.
//
// With an error, which is the list's, the context's or that of Add as a
// *RecordError, the records before it were added.
func (r *Replayer) AddAll(ctx context.Context, list iter.Seq2[Record, error]) error {
	e := newEngine(r, &r.opts)
	e.unchecked = true
	err := e.run(ctx, list)
	for i, l := range e.lanes {
		r.banks[i].buf = l.paths[0].buf
	}
	r.count += e.records
	return err
}

// Count returns the number of records added, those of other PCRs included.
func (r *Replayer) Count() int { return r.count }

// PCR returns the index of the PCR that is replayed.
func (r *Replayer) PCR() uint32 { return r.pcr }

// Banks returns the algorithms of the banks that are replayed, in order.
func (r *Replayer) Banks() []uint16 {
	algs := make([]uint16, len(r.banks))
	for i := range r.banks {
		algs[i] = r.banks[i].alg
	}
	return algs
}

// Values returns the PCR's present values.
func (r *Replayer) Values() Values {
	v := make(Values, len(r.banks))
	for i := range r.banks {
		b := &r.banks[i]
		v[b.alg] = bytes.Clone(b.value())
	}
	return v
}

// Value returns the PCR's present value in one bank, nil for one that is not
// replayed. It is valid until the next Add.
func (r *Replayer) Value(alg uint16) []byte {
	if b := r.bank(alg); b != nil {
		return b.value()
	}
	return nil
}

// Match reports whether every bank of want, at least one, has the wanted value.
// Banks that want lacks do not matter; one that is not replayed is no match.
func (r *Replayer) Match(want Values) bool {
	for alg, v := range want {
		b := r.bank(alg)
		if b == nil || !bytes.Equal(b.value(), v) {
			return false
		}
	}
	return len(want) > 0
}

// Clone returns a Replayer in the same state, independent of r. It is cheap: to
// try how a list goes on, clone the Replayer and add to the clone.
func (r *Replayer) Clone() *Replayer {
	c := *r
	c.banks = make([]bank, len(r.banks))
	for i := range c.banks {
		c.banks[i] = r.banks[i].clone()
	}
	return &c
}

// Padded reports whether the kernel of the present boot extends a bank with the
// padded SHA-1 digest. It is false for SHA-1 itself.
func (r *Replayer) Padded(alg uint16) bool {
	b := r.bank(alg)
	return b != nil && b.padded
}

// SetPadded says how the records that follow extend a bank: hashed or, where the
// kernel lacked the bank's hash when IMA started, padded. That can change at each
// boot_aggregate; Verify finds it out.
func (r *Replayer) SetPadded(alg uint16, padded bool) {
	if b := r.bank(alg); b != nil {
		b.padded = padded && alg != AlgSHA1
	}
}
