// Package handovertest is a machine for tests of handovers: a measurement list
// that grows, a TPM, and a kexec that restores the list by the kernel's rules. It
// needs no root, no virtual machine and no TPM, and has faults to switch on that a
// real machine shows once in a thousand boots.
//
// It stands in for a real kernel only where one cannot be asked: the rules of
// kexec_load(2), of placement in memory and of the boot protocol are not modelled.
package handovertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
	"github.com/imakexec/imakexec/kexecseg"
)

// Options describe the machine to make.
type Options struct {
	// Records are measured at once, in order: a captured list, say. When there are
	// none the machine measures a boot_aggregate, as a kernel does.
	Records iter.Seq2[imalog.Record, error]

	// TPM is the machine's TPM; nil means one in software that has nothing but
	// PCRs, with the banks of Banks.
	TPM transport.TPM

	// Banks of the software TPM (TPM_ALG_ID); nil means SHA-1 and SHA-256.
	Banks []uint16

	// Padded are the banks whose hash the machine's kernel lacks: it extends the
	// SHA-1 digest, padded.
	Padded []uint16

	// KernelEvent makes a kernel that measures a kexec_execute of its own at the
	// jump, as Linux 6.16 does with CONFIG_IMA_KEXEC.
	KernelEvent bool

	// NoTPM makes a machine whose list nothing vouches for.
	NoTPM bool

	// NoIMA makes a machine without a measurement list.
	NoIMA bool
}

// Faults are what can go wrong. They may be set at any time between two calls.
type Faults struct {
	// MeasureDuringLoad is the number of loads to come during which the machine
	// measures a file: too late for the list that is being loaded.
	MeasureDuringLoad int

	// Load, when not nil, is what the kernel answers to kexec_load(2).
	Load error

	// Narrow makes a machine that has no memory for an image while another is loaded:
	// Load is then refused with kexecseg.ErrNoMemory.
	Narrow bool

	// Unload, when not nil, is what the kernel answers to a kexec_load(2) of
	// nothing, which drops the image.
	Unload error

	// Kexec, when not nil, is what the kernel answers to reboot(2).
	Kexec error

	// CutBuffer is the number of bytes that the kexec loses at the end of the
	// buffer: they arrive as zeros.
	CutBuffer int
}

// Machine is a machine for tests; it is a handover.System. Its methods may be
// called from several goroutines.
type Machine struct {
	Faults Faults

	mu     sync.Mutex
	tpm    transport.TPM
	padded map[uint16]bool
	noIMA  bool
	event  bool // the kernel measures its own kexec_execute
	boot   int
	list   []byte // encoded records
	count  int

	deleted, deletedBytes int // of the list's oldest records

	late   int    // files measured by Faults.MeasureDuringLoad
	loaded *image // nil: kexec_loaded is 0
	loads  int
}

// image is what the kernel copied at kexec_load(2).
type image struct{ buffer []byte }

// New makes a machine, booted once.
func New(opts *Options) (*Machine, error) {
	if opts == nil {
		opts = &Options{}
	}
	m := &Machine{tpm: opts.TPM, noIMA: opts.NoIMA, event: opts.KernelEvent, padded: map[uint16]bool{}}
	for _, alg := range opts.Padded {
		m.padded[alg] = true
	}
	if m.tpm == nil && !opts.NoTPM {
		soft, err := softTPM(opts.Banks)
		if err != nil {
			return nil, err
		}
		m.tpm = soft
	}
	if opts.Records == nil {
		return m, m.bootAggregate()
	}
	for rec, err := range opts.Records {
		if err != nil {
			return nil, err
		}
		if err := m.MeasureRecord(rec); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func softTPM(banks []uint16) (*softtpm.TPM, error) {
	known := map[uint16]softtpm.Bank{
		imalog.AlgSHA1:   softtpm.SHA1(),
		imalog.AlgSHA256: softtpm.SHA256(),
		imalog.AlgSHA384: softtpm.SHA384(),
		imalog.AlgSHA512: softtpm.SHA512(),
	}
	var opts softtpm.Options
	for _, alg := range banks {
		bank, ok := known[alg]
		if !ok {
			return nil, fmt.Errorf("handovertest: no software TPM has a bank of algorithm %#04x", alg)
		}
		opts.Banks = append(opts.Banks, bank)
	}
	return softtpm.New(&opts), nil
}

// TPM returns the machine's TPM; nil when it has none.
func (m *Machine) TPM() transport.TPM { return m.tpm }

// Boots returns how many kernels ran before this one.
func (m *Machine) Boots() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boot
}

// Loads returns how many times an image was loaded.
func (m *Machine) Loads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loads
}

// List returns the kernel's list, encoded, and its number of records.
func (m *Machine) List() ([]byte, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.list...), m.count
}

// MeasureFile measures a file, as the kernel does when it is opened: a record
// of template ima-ng with the SHA-256 of its content.
func (m *Machine) MeasureFile(name string, content []byte) error {
	sum := sha256.Sum256(content)
	return m.MeasureRecord(ngRecord(name, sum[:]))
}

// MeasureRecord appends a record to the kernel's list and then extends PCR 10
// in every bank, as the kernel does
// (security/integrity/ima/ima_queue.c: ima_add_template_entry).
func (m *Machine) MeasureRecord(rec imalog.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.measure(rec)
}

// Extend extends a PCR in every bank behind the kernel's back, as a stranger to
// the list does: PCR 10 no longer replays.
func (m *Machine) Extend(pcr uint32, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec := imalog.Record{PCR: pcr, Template: "ima-buf", Data: data, Digest: make([]byte, 20)}
	rec.Digest[0] = 1 // not a violation
	return m.extend(&rec)
}

func (m *Machine) measure(rec imalog.Record) error {
	if m.noIMA {
		return errors.New("handovertest: the machine has no IMA")
	}
	b, err := rec.AppendBinary(m.list)
	if err != nil {
		return err
	}
	m.list = b
	m.count++
	return m.extend(&rec)
}

// extend is one TPM2_PCR_Extend for all banks (TCG TPM 2.0 Library, part 3, 22.2).
func (m *Machine) extend(rec *imalog.Record) error {
	if m.tpm == nil {
		return nil
	}
	values, err := m.values(rec.PCR)
	if err != nil {
		return err
	}
	cmd := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(rec.PCR), Auth: tpm2.PasswordAuth(nil)}}
	for alg := range values {
		digest := make([]byte, imalog.AlgSize(alg))
		switch {
		case rec.Violation():
			for i := range digest {
				digest[i] = 0xff
			}
		case m.padded[alg]:
			b, err := rec.AppendDigest(nil, imalog.AlgSHA1)
			if err != nil {
				return err
			}
			copy(digest, b)
		default:
			if digest, err = rec.AppendDigest(nil, alg); err != nil {
				return err
			}
		}
		cmd.Digests.Digests = append(cmd.Digests.Digests, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(alg), Digest: digest})
	}
	_, err = cmd.Execute(m.tpm)
	return err
}

func (m *Machine) values(pcr uint32) (imalog.Values, error) {
	reader := events.Measurer{TPM: m.tpm, PCR: pcr}
	return reader.Values(context.Background())
}

// bootAggregate measures what a kernel measures first: a digest over PCRs 0 to 9
// (security/integrity/ima/ima_crypto.c: ima_calc_boot_aggregate).
func (m *Machine) bootAggregate() error {
	if m.noIMA {
		return nil
	}
	sum := make([]byte, sha256.Size)
	if m.tpm != nil {
		h := sha256.New()
		for pcr := uint32(0); pcr < 10; pcr++ {
			v, err := m.values(pcr)
			if err != nil {
				return err
			}
			h.Write(v[imalog.AlgSHA256])
		}
		sum = h.Sum(nil)
	}
	return m.measure(ngRecord("boot_aggregate", sum))
}

// ngRecord builds a record of template ima-ng.
func ngRecord(name string, sum []byte) imalog.Record {
	data := appendField(nil, append([]byte("sha256:\x00"), sum...))
	data = appendField(data, append([]byte(name), 0))
	rec := imalog.Record{PCR: 10, Template: "ima-ng", Data: data}
	rec.Digest, _ = rec.AppendDigest(nil, imalog.AlgSHA1) // cannot fail: SHA-1 is known
	return rec
}

func appendField(b, field []byte) []byte {
	n := uint32(len(field))
	return append(append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)), field...)
}

// Load copies the image's kexec buffer, as kexec_load(2) copies segments.
func (m *Machine) Load(img *kexecseg.Image) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Faults.Load != nil {
		return m.Faults.Load
	}
	if m.Faults.Narrow && m.loaded != nil {
		return &kexecseg.RefusedError{Op: "kexec_load", Reason: kexecseg.ErrNoMemory}
	}
	if err := img.Check(); err != nil {
		return err
	}
	loaded := &image{}
	for _, seg := range img.Segments {
		if img.IMA.Size > 0 && seg.Phys.Contains(img.IMA) {
			off := img.IMA.Start - seg.Phys.Start
			loaded.buffer = append([]byte(nil), seg.Buf[off:off+img.IMA.Size]...)
		}
	}
	m.loaded = loaded
	m.loads++
	if m.Faults.MeasureDuringLoad > 0 {
		m.Faults.MeasureDuringLoad--
		m.late++
		sum := sha256.Sum256([]byte{byte(m.late)})
		return m.measure(ngRecord(fmt.Sprintf("/usr/lib/late-%d", m.late), sum[:]))
	}
	return nil
}

// Unload drops the loaded image.
func (m *Machine) Unload() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Faults.Unload != nil {
		return m.Faults.Unload
	}
	m.loaded = nil
	return nil
}

// DeleteOldest deletes the n oldest records of the list, as root can with Linux
// 7.2 and later. The kernel's own event goes on counting them.
func (m *Machine) DeleteOldest(n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; n > 0; n-- {
		for rec, err := range imalog.Records(m.list, nil) {
			if err != nil {
				return err
			}
			m.list = m.list[rec.BinarySize():]
			m.count--
			m.deleted++
			m.deletedBytes += rec.KernelSize()
			break
		}
	}
	return nil
}

// Kexec starts the next kernel: it restores from the buffer what a kernel would
// (imalog.Restore) and measures its own boot_aggregate. The PCRs stay.
func (m *Machine) Kexec() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Faults.Kexec != nil {
		return m.Faults.Kexec
	}
	if m.loaded == nil {
		return kexecseg.ErrNotLoaded
	}
	if m.event {
		if err := m.kexecExecute(); err != nil {
			return err
		}
	}
	buffer := m.loaded.buffer
	clear(buffer[max(0, len(buffer)-m.Faults.CutBuffer):])
	m.loaded = nil
	m.boot++
	m.list, m.count, m.deleted, m.deletedBytes = nil, 0, 0, 0
	if m.noIMA {
		return nil
	}
	restored, _, _ := imalog.Restore(buffer) // a kernel keeps the good prefix and boots on
	for _, rec := range restored {
		b, err := rec.AppendBinary(m.list)
		if err != nil {
			return err
		}
		m.list = b
		m.count++
	}
	return m.bootAggregate()
}

// kexecExecute is the kernel's own event, with the figures of its own list
// (security/integrity/ima/ima_kexec.c: ima_measure_kexec_event).
func (m *Machine) kexecExecute() error {
	f := events.Figures{ListSize: uint64(imalog.HeaderSize + m.deletedBytes), Count: uint64(m.count + m.deleted)}
	for rec, err := range imalog.Records(m.list, nil) {
		if err != nil {
			return err
		}
		f.ListSize += uint64(rec.KernelSize())
	}
	rec, err := events.PredictExecute(f, nil)
	if err != nil {
		return err
	}
	return m.measure(rec)
}

// FS returns the machine's files: see files.go.
func (m *Machine) FS() fs.FS { return files{m} }

func (m *Machine) bootID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%p boot %d", m, m.boot))
	return hex.EncodeToString(sum[:16])
}
