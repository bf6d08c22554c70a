// Package softtpm is a TPM 2.0 with nothing but PCRs, for tests.
//
// It answers TPM2_GetCapability(TPM_CAP_PCRS), TPM2_PCR_Read and
// TPM2_PCR_Extend on the wire format of the TPM 2.0 Library specification, part
// 3, so that go-tpm's direct API works against it unmodified, and fails in the
// ways a test asks for: busy, an error code, a transport that dies before or
// after the command was carried out. internal/simtest holds it against the
// reference implementation, byte for byte.
package softtpm

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"sync"

	"github.com/google/go-tpm/tpm2"
)

// PCRs is the number of PCRs in a bank, that of the PC Client profile.
const PCRs = 24

// Bank is a PCR bank: its TPM_ALG_ID and the hash that extends it.
type Bank struct {
	Alg tpm2.TPMAlgID
	New func() hash.Hash
}

// Banks of the hashes in the standard library.
func SHA1() Bank   { return Bank{tpm2.TPMAlgSHA1, sha1.New} }
func SHA256() Bank { return Bank{tpm2.TPMAlgSHA256, sha256.New} }
func SHA384() Bank { return Bank{tpm2.TPMAlgSHA384, sha512.New384} }
func SHA512() Bank { return Bank{tpm2.TPMAlgSHA512, sha512.New} }

// Options configures a TPM. The zero value has the sha1 and sha256 banks.
type Options struct {
	// Banks are the allocated banks, in the order the TPM lists them. Any
	// algorithm can be had by bringing its hash. Nil: sha1 and sha256.
	Banks []Bank
	// Unallocated banks are known to the TPM and listed without a PCR, as
	// real TPMs list what their firmware left out.
	Unallocated []Bank
	// MaxDigests is how many digests one TPM2_PCR_Read answers. 0: 8, the
	// limit of TPML_DIGEST.
	MaxDigests int
}

// TPM is a transport.TPM. It has been started, as firmware leaves it, and is
// safe for concurrent use.
type TPM struct {
	opts Options

	mu      sync.Mutex
	pcrs    map[tpm2.TPMAlgID]*[PCRs][]byte
	counter uint32 // TPM2_PCR_Read's pcrUpdateCounter
	extends int
	faults  []*Fault
	before  func(pcr uint32)
	after   func(pcr uint32)
	hooked  bool // a hook is running
}

// New returns a TPM just reset and started.
func New(opts *Options) *TPM {
	t := &TPM{}
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.Banks == nil {
		t.opts.Banks = []Bank{SHA1(), SHA256()}
	}
	if t.opts.MaxDigests == 0 {
		t.opts.MaxDigests = 8
	}
	t.PowerCycle()
	return t
}

// PowerCycle resets and starts the TPM, as a cold boot does: PCRs 17 to 22 hold
// ones, all others zeros. Faults and hooks stay.
func (t *TPM) PowerCycle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counter = 0
	t.pcrs = make(map[tpm2.TPMAlgID]*[PCRs][]byte)
	for _, b := range t.opts.Banks {
		size := b.New().Size()
		var bank [PCRs][]byte
		for i := range bank {
			if i >= 17 && i <= 22 {
				bank[i] = bytes.Repeat([]byte{0xff}, size)
			} else {
				bank[i] = make([]byte, size)
			}
		}
		t.pcrs[b.Alg] = &bank
	}
}

// Fault is something that goes wrong with a command.
type Fault struct {
	// Command is the one that fails. 0: any.
	Command tpm2.TPMCC
	// RC is answered in place of carrying the command out, for instance
	// TPM_RC_RETRY. 0: see Err.
	RC tpm2.TPMRC
	// Err is returned by Send in place of an answer.
	Err error
	// Done says that Err comes after the command was carried out.
	Done bool
	// Skip is how many such commands pass unharmed first.
	Skip int
	// Times is how often it goes wrong. 0: once; negative: until Repair.
	Times int
}

// Inject adds a fault. Of several that fit a command the oldest strikes.
func (t *TPM) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, &f)
}

// Repair takes all faults away.
func (t *TPM) Repair() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = nil
}

// OnExtend has before and after called around every TPM2_PCR_Extend that is
// carried out. They may use the TPM, so that a stranger can extend just then;
// an extend made while a hook runs calls none. Nil takes a hook away.
func (t *TPM) OnExtend(before, after func(pcr uint32)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before, t.after = before, after
}

// Value returns a copy of a PCR, nil when there is no such bank or PCR.
func (t *TPM) Value(alg tpm2.TPMAlgID, pcr uint32) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	bank := t.pcrs[alg]
	if bank == nil || pcr >= PCRs {
		return nil
	}
	return bytes.Clone(bank[pcr])
}

// Set gives a PCR a value, as no TPM would: a test begins where a captured
// machine stood.
func (t *TPM) Set(alg tpm2.TPMAlgID, pcr uint32, value []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	bank := t.pcrs[alg]
	if bank == nil || pcr >= PCRs || len(value) != len(bank[pcr]) {
		return fmt.Errorf("softtpm: no bank %#04x with PCR %d of %d bytes", uint16(alg), pcr, len(value))
	}
	bank[pcr] = bytes.Clone(value)
	return nil
}

// Extends is how many TPM2_PCR_Extend commands were carried out.
func (t *TPM) Extends() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.extends
}

// strike returns the fault that hits a command, if one does.
func (t *TPM) strike(cc tpm2.TPMCC) *Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.faults {
		if f.Times == 0 || (f.Command != 0 && f.Command != cc) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return f
	}
	return nil
}
