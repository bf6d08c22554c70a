package events

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

// Names of the two records that Linux 6.16 and later measures around a kexec
// (security/integrity/ima/ima_kexec.c: ima_measure_kexec_event). Their payload
// is Figures, their label in a policy LabelKexec.
const (
	KexecLoad    = "kexec_load"
	KexecExecute = "kexec_execute"
)

// MaxDataSize is the longest critical data, in bytes, that a kernel can measure
// and, after a kexec, restore: either copies it, with one byte more, into a
// single kmalloc, which ends at 4 MiB.
const MaxDataSize = 4<<20 - 1

// Why NewRecord and Event.Record refuse.
var (
	ErrName      = errors.New("event name is empty or holds a NUL")
	ErrLabel     = errors.New("label is empty or cannot stand in a policy rule")
	ErrNoData    = errors.New("no data to measure")
	ErrTooLong   = errors.New("data longer than a kernel measures or restores")
	ErrAlgorithm = errors.New("hash algorithm not available")
)

const templateBuf = "ima-buf" // d-ng|n-ng|buf

// RecordOptions configures NewRecord. The zero value is what a kernel does that
// nobody configured otherwise.
type RecordOptions struct {
	// PCR is the register that the record goes to. 0: 10.
	PCR uint32
	// Alg is the hash of field d-ng, a TPM_ALG_ID: the running kernel's
	// ima_hash=. 0: SHA-256.
	Alg uint16
	// Hashed puts the digest of the data into the record in place of the data,
	// as ima_measure_critical_data does when its argument hash is set: SELinux
	// measures its policy this way.
	Hashed bool
}

// NewRecord builds the record of critical data as the kernel does: template
// ima-buf, d-ng over the data, n-ng the event's name with spaces made
// underscores, buf the data; its Digest is the SHA-1 template digest, as in the
// list. It neither measures nor keeps data.
//
// It refuses what a kernel refuses or could not hand on: an empty name or one
// with a NUL (ErrName), no data (ErrNoData), more than MaxDataSize (ErrTooLong),
// a hash that the library lacks (ErrAlgorithm).
//
// Source: security/integrity/ima/ima_main.c: process_buffer_measurement,
// ima_template_lib.c: ima_eventdigest_ng_init, ima_eventname_ng_init,
// ima_eventbuf_init.
func NewRecord(name string, data []byte, opts *RecordOptions) (imalog.Record, error) {
	var o RecordOptions
	if opts != nil {
		o = *opts
	}
	if o.PCR == 0 {
		o.PCR = imalog.DefaultPCR
	}
	if o.Alg == 0 {
		o.Alg = imalog.AlgSHA256
	}
	refuse := func(err error) (imalog.Record, error) {
		return imalog.Record{}, fmt.Errorf("events: record %q: %w", name, err)
	}
	h := newHash(o.Alg)
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0:
		return refuse(ErrName)
	case len(data) == 0:
		return refuse(ErrNoData)
	case len(data) > MaxDataSize || len(name) > MaxDataSize:
		return refuse(ErrTooLong)
	case h == nil:
		return refuse(fmt.Errorf("%w: %#04x", ErrAlgorithm, o.Alg))
	}
	h.Write(data)
	digest := h.Sum(nil)
	if o.Hashed {
		data = digest
		h.Reset()
		h.Write(data)
		digest = h.Sum(nil)
	}
	alg := imalog.AlgName(o.Alg)
	size := 4 + len(alg) + 2 + len(digest) + 4 + len(name) + 1 + 4 + len(data)
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(alg)+2+len(digest)))
	b = append(b, alg...)
	b = append(b, ':', 0)
	b = append(b, digest...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)+1))
	b = append(b, strings.ReplaceAll(name, " ", "_")...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)

	rec := imalog.Record{PCR: o.PCR, Template: templateBuf, Data: b}
	var err error
	if rec.Digest, err = rec.AppendDigest(nil, imalog.AlgSHA1); err != nil {
		return refuse(err)
	}
	return rec, nil
}

// newHash returns the hash of a TPM_ALG_ID, nil when the standard library has
// none.
func newHash(alg uint16) hash.Hash {
	switch alg {
	case imalog.AlgSHA1:
		return sha1.New()
	case imalog.AlgSHA256:
		return sha256.New()
	case imalog.AlgSHA384:
		return sha512.New384()
	case imalog.AlgSHA512:
		return sha512.New()
	}
	return nil
}

// sameRecord reports whether two records are equal byte for byte.
func sameRecord(a, b *imalog.Record) bool {
	return a.PCR == b.PCR && a.Template == b.Template && a.BigEndian == b.BigEndian &&
		bytes.Equal(a.Digest, b.Digest) && bytes.Equal(a.Data, b.Data)
}
