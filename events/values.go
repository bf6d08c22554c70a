package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/imalog"
)

// ErrBank: a bank cannot be read or extended.
var ErrBank = errors.New("PCR bank that cannot be used")

// maxBanks bounds what a TPM may list: HASH_COUNT of the specification is at
// most 16.
const maxBanks = 16

// TPMValues reads a PCR, any of the TPM's, in every allocated bank: with one
// TPM2_PCR_Read where the TPM answers that many digests at once; where it takes
// several, the PCR update counter proves that nothing changed between them. A bank
// whose algorithm the library does not know is there too, under its TPM_ALG_ID.
// SysfsValues has the same from the kernel's files.
func TPMValues(ctx context.Context, tpm transport.TPM, pcr uint32) (imalog.Values, error) {
	r := &pcrReader{tpm: tpm, pcr: pcr}
	return r.values(ctx, r.banks)
}

// Values is TPMValues of the PCR that is measured into, where the banks are asked
// for once. It needs neither Journal nor Padded.
func (m *Measurer) Values(ctx context.Context) (imalog.Values, error) {
	return m.reader().values(ctx, m.banks)
}

// banks asks the TPM for the banks once: allocation changes only when the TPM is
// reset (TPM 2.0 Library, part 3, 30.2, TPM_CAP_PCRS).
func (m *Measurer) banks(ctx context.Context) (banks []uint16, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.allocated == nil {
		m.allocated, err = m.reader().banks(ctx)
	}
	return m.allocated, err
}

func (m *Measurer) reader() *pcrReader {
	return &pcrReader{tpm: m.TPM, pcr: m.pcr(), patience: m.Patience}
}

// pcrReader reads one PCR.
type pcrReader struct {
	tpm      transport.TPM
	pcr      uint32
	patience time.Duration // with a busy TPM; 0: defaultPatience
}

func (r *pcrReader) values(ctx context.Context, banks func(context.Context) ([]uint16, error)) (imalog.Values, error) {
	algs, err := banks(ctx)
	if err != nil {
		return nil, fmt.Errorf("events: banks of the TPM: %w", err)
	}
	v, err := r.read(ctx, algs)
	if err != nil {
		return nil, fmt.Errorf("events: read PCR %d: %w", r.pcr, err)
	}
	return v, nil
}

// banks asks the TPM which banks have the PCR.
func (r *pcrReader) banks(ctx context.Context) ([]uint16, error) {
	var banks []uint16
	var rsp *tpm2.GetCapabilityResponse
	err := r.patiently(ctx, func() (err error) {
		rsp, err = tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: maxBanks}.Execute(r.tpm)
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, err
	}
	for _, s := range list.PCRSelections {
		if selected(s.PCRSelect, r.pcr) {
			banks = append(banks, uint16(s.Hash))
		}
	}
	if len(banks) == 0 {
		return nil, fmt.Errorf("%w: none has PCR %d", ErrBank, r.pcr)
	}
	return banks, nil
}

func selected(bits []byte, pcr uint32) bool {
	i := uint64(pcr / 8)
	return i < uint64(len(bits)) && bits[i]&(1<<(pcr%8)) != 0
}

// read reads the PCR of the given banks, all at the same moment.
func (r *pcrReader) read(ctx context.Context, banks []uint16) (imalog.Values, error) {
	for range readAttempts {
		values := make(imalog.Values, len(banks))
		var counter uint32
		torn := false
		for first := true; len(values) < len(banks) && !torn; first = false {
			now, err := r.readSome(ctx, banks, values)
			if err != nil {
				return nil, err
			}
			torn = !first && now != counter
			counter = now
		}
		if !torn {
			return values, nil
		}
	}
	return nil, ErrUnsteady
}

// readSome reads the banks that values lacks, as many as the TPM answers, and
// returns the PCR update counter (part 3, 22.4).
func (r *pcrReader) readSome(ctx context.Context, banks []uint16, values imalog.Values) (uint32, error) {
	var sel []tpm2.TPMSPCRSelection
	for _, alg := range banks {
		if values[alg] == nil {
			sel = append(sel, tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgID(alg), PCRSelect: tpm2.PCClientCompatible.PCRs(uint(r.pcr))})
		}
	}
	var rsp *tpm2.PCRReadResponse
	err := r.patiently(ctx, func() (err error) {
		rsp, err = tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: sel}}.Execute(r.tpm)
		return err
	})
	if err != nil {
		return 0, err
	}
	digests := rsp.PCRValues.Digests
	got := 0
	for _, s := range rsp.PCRSelectionOut.PCRSelections {
		if !selected(s.PCRSelect, r.pcr) {
			continue
		}
		alg := uint16(s.Hash)
		if values[alg] != nil || !slices.Contains(banks, alg) {
			return 0, fmt.Errorf("%w: the TPM answers bank %s, which it was not asked for", ErrBank, bankName(alg))
		}
		if got == len(digests) {
			return 0, fmt.Errorf("%w: the TPM lists bank %s and does not answer it", ErrBank, bankName(alg))
		}
		v := digests[got].Buffer
		if size := imalog.AlgSize(alg); len(v) == 0 || (size != 0 && len(v) != size) {
			return 0, fmt.Errorf("%w: the TPM answers %d bytes for bank %s", ErrBank, len(v), bankName(alg))
		}
		values[alg] = v
		got++
	}
	if got == 0 {
		return 0, fmt.Errorf("%w: the TPM answers none of %d banks", ErrBank, len(sel))
	}
	return rsp.PCRUpdateCounter, nil
}

// defaultPatience is how long a busy TPM is waited for: the self-test of a slow
// one takes seconds.
const defaultPatience = 20 * time.Second

// patiently does a command again while the TPM says that it did nothing because
// it is busy (TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING; part 1, 39.2).
func (r *pcrReader) patiently(ctx context.Context, do func() error) error {
	patience := r.patience
	if patience == 0 {
		patience = defaultPatience
	}
	deadline := time.Now().Add(patience)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if err := ctx.Err(); err != nil {
			return &unsentError{err}
		}
		err := do()
		if !busy(err) {
			return err
		}
		if !time.Now().Add(wait).Before(deadline) {
			return fmt.Errorf("the TPM was busy for %v: %w", patience, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return &unsentError{fmt.Errorf("%w (%w)", ctx.Err(), err)}
		case <-timer.C:
		}
	}
}

// unsentError: the command was not given to the TPM, or it did nothing.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

func busy(err error) bool {
	return errors.Is(err, tpm2.TPMRCRetry) || errors.Is(err, tpm2.TPMRCYielded) || errors.Is(err, tpm2.TPMRCTesting)
}
