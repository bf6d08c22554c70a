package imalog

import (
	"bytes"
	"errors"
	"hash"
)

// Why a boot_aggregate does not vouch for the PCRs.
var (
	// ErrNoAggregate means that the record is not a boot_aggregate.
	ErrNoAggregate = errors.New("imalog: not a boot_aggregate")
	// ErrNoTPM means that the boot_aggregate is zeros: the kernel found no TPM when
	// IMA started, and extended none.
	ErrNoTPM = errors.New("imalog: boot_aggregate is zeros: the kernel had no TPM")
	// ErrNoPCR means that a value is missing that the boot_aggregate was made from.
	ErrNoPCR = errors.New("imalog: boot_aggregate cannot be computed: the value of a PCR is missing")
	// ErrAggregate means that the boot_aggregate was not made from these values.
	ErrAggregate = errors.New("imalog: boot_aggregate is not that of the PCRs")
)

// BootAggregate computes the digest that a kernel measures first in every boot:
// that of the PCRs 0 to n-1 of one bank, in the bank's hash. n is 10, and 8 in the SHA-1 bank;
// kernels before 5.8 use 8 in every bank
// (security/integrity/ima/ima_crypto.c: ima_calc_boot_aggregate_tfm).
//
// custom is the hash to use, nil for that of the standard library. The error
// unwraps to ErrNoPCR or ErrAlg.
func BootAggregate(pcrs PCRs, alg uint16, n uint32, custom func() hash.Hash) ([]byte, error) {
	var all []byte
	for i := range n {
		value, ok := pcrs[i][alg]
		if !ok {
			return nil, ErrNoPCR
		}
		all = append(all, value...)
	}
	b := newBank(alg, custom)
	if b.size == 0 {
		return nil, &AlgError{alg}
	}
	b.digest(all)
	return bytes.Clone(b.room()), nil
}

// CheckBootAggregate compares a boot_aggregate with the values that the PCRs 0
// to 9 have, which do not change after the kernel has started. Only the bank of the
// record's digest is needed. It returns that bank, and how many PCRs the digest
// is made from: 10 or 8.
//
// The error is ErrNoAggregate, ErrNoTPM or ErrAggregate, or unwraps to ErrNoPCR
// or ErrAlg where nothing can be said.
func CheckBootAggregate(rec *Record, pcrs PCRs, hashes map[uint16]func() hash.Hash) (alg uint16, n uint32, err error) {
	d, found := rec.FileDigest()
	if !found || !rec.BootAggregate() {
		return 0, 0, ErrNoAggregate
	}
	alg, known := AlgByName(d.Alg())
	if d.Alg() == "" {
		alg, known = AlgSHA1, len(d.Sum) == AlgSize(AlgSHA1)
	}
	if !known {
		return 0, 0, ErrAlg
	}
	if len(bytes.Trim(d.Sum, "\x00")) == 0 {
		return alg, 0, ErrNoTPM
	}
	sizes := []uint32{10, 8}
	if alg == AlgSHA1 {
		sizes = sizes[1:]
	}
	err = ErrAggregate
	for _, n := range sizes {
		sum, missing := BootAggregate(pcrs, alg, n, hashes[alg])
		if missing != nil {
			err = missing
		} else if bytes.Equal(sum, d.Sum) {
			return alg, n, nil
		}
	}
	return alg, 0, err
}
