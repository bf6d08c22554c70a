package imalog

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
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
}

// A Replayer computes what a list extends into a PCR, in every bank in one pass,
// without an allocation for a record.
//
// A bank is hashed, extended with the template digest in its own hash, or
// padded; see SetPadded. A violation extends 0xff bytes in either.
type Replayer struct {
	pcr   uint32
	count int
	banks []bank
	ima   [imaDigestInput]byte // what the digest of template "ima" covers
}

// A bank is the state of one PCR bank.
type bank struct {
	alg    uint16
	size   int
	padded bool
	hash   hash.Hash // nil: that of the standard library
	make   func() hash.Hash
	// The value and, behind it, room for the digest that extends it.
	buf [2 * maxDigest]byte
}

// NewReplayer returns a Replayer before its first record. Banks of algorithms
// that AlgSize does not know, and SM3 without a hash of its own, are left out:
// Values does not have them and Match is false for them.
func NewReplayer(opts *ReplayOptions) *Replayer {
	if opts == nil {
		opts = &ReplayOptions{}
	}
	r := &Replayer{pcr: opts.PCR}
	if r.pcr == 0 {
		r.pcr = DefaultPCR
	}
	algs := opts.Banks
	if algs == nil {
		algs = []uint16{AlgSHA1, AlgSHA256}
	}
	r.banks = make([]bank, 0, len(algs))
	for _, alg := range algs {
		b := bank{alg: alg, size: AlgSize(alg), make: opts.Hashes[alg], padded: slices.Contains(opts.Padded, alg)}
		if b.size == 0 || b.make == nil && alg == AlgSM3_256 || r.bank(alg) != nil {
			continue
		}
		if b.make != nil {
			b.hash = b.make()
		}
		copy(b.buf[:b.size], opts.Start[alg])
		r.banks = append(r.banks, b)
	}
	slices.SortFunc(r.banks, func(a, b bank) int { return int(a.alg) - int(b.alg) })
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
			for j := range b.buf[b.size : 2*b.size] {
				b.buf[b.size+j] = 0xff
			}
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

// digest computes what the kernel extends for data that is no violation.
func (b *bank) digest(data []byte) {
	dst := b.buf[b.size : 2*b.size]
	switch {
	case b.padded && b.alg != AlgSHA1:
		sum := sha1.Sum(data)
		clear(dst[copy(dst, sum[:]):])
	case b.hash != nil:
		b.hash.Reset()
		b.hash.Write(data)
		b.hash.Sum(dst[:0])
	case b.alg == AlgSHA1:
		sum := sha1.Sum(data)
		copy(dst, sum[:])
	case b.alg == AlgSHA256:
		sum := sha256.Sum256(data)
		copy(dst, sum[:])
	case b.alg == AlgSHA384:
		sum := sha512.Sum384(data)
		copy(dst, sum[:])
	case b.alg == AlgSHA512:
		sum := sha512.Sum512(data)
		copy(dst, sum[:])
	}
}

// extend replaces the value by the hash of value and digest.
func (b *bank) extend() {
	in := b.buf[:2*b.size]
	switch {
	case b.hash != nil:
		b.hash.Reset()
		b.hash.Write(in)
		b.hash.Sum(b.buf[:0])
	case b.alg == AlgSHA1:
		sum := sha1.Sum(in)
		copy(in, sum[:])
	case b.alg == AlgSHA256:
		sum := sha256.Sum256(in)
		copy(in, sum[:])
	case b.alg == AlgSHA384:
		sum := sha512.Sum384(in)
		copy(in, sum[:])
	case b.alg == AlgSHA512:
		sum := sha512.Sum512(in)
		copy(in, sum[:])
	}
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
		v[b.alg] = bytes.Clone(b.buf[:b.size])
	}
	return v
}

// Value returns the PCR's present value in one bank, nil for one that is not
// replayed. It is valid until the next Add.
func (r *Replayer) Value(alg uint16) []byte {
	if b := r.bank(alg); b != nil {
		return b.buf[:b.size:b.size]
	}
	return nil
}

// Match reports whether every bank of want, at least one, has the wanted value.
// Banks that want lacks do not matter; one that is not replayed is no match.
func (r *Replayer) Match(want Values) bool {
	for alg, v := range want {
		b := r.bank(alg)
		if b == nil || !bytes.Equal(b.buf[:b.size], v) {
			return false
		}
	}
	return len(want) > 0
}

// Clone returns a Replayer in the same state, independent of r. It is cheap: to
// try how a list goes on, clone the Replayer and add to the clone.
func (r *Replayer) Clone() *Replayer {
	c := *r
	c.banks = slices.Clone(r.banks)
	for i := range c.banks {
		if b := &c.banks[i]; b.make != nil {
			b.hash = b.make()
		}
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
