package imalog

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"strconv"
)

// A Record is one measurement: an entry of a measurement list.
//
// Digest and Data may alias the buffer that the record was read from; the
// functions that return records say how long they are valid.
type Record struct {
	PCR      uint32
	Digest   []byte // template digest as listed: SHA-1 unless the file is a *_<alg> one; all zero: a violation
	Template string // "ima-ng", ... or a field format such as "d-ng|n-ng"
	Data     []byte // template data, exactly as listed; see Template "ima" in AppendDigest

	// BigEndian tells that the record comes from a big-endian kernel that does
	// not use the canonical form (ima_canonical_fmt): its integers and the field
	// lengths in Data are big-endian, in the list and under the digest.
	BigEndian bool
}

// BinarySize returns the number of bytes that AppendBinary appends.
func (r *Record) BinarySize() int {
	n := 4 + len(r.Digest) + 4 + len(r.Template) + len(r.Data)
	if r.Template != templateIMA {
		n += 4
	}
	return n
}

// KernelSize returns the number of bytes that the kernel counts for the record, in the
// figures of its kexec events for instance: those of the list with SHA-1 digests, but no
// name for a template that has none but its format, and 9 more for template "ima", whose
// list leaves out lengths and a NUL
// (security/integrity/ima/ima_queue.c: get_binary_runtime_size).
func (r *Record) KernelSize() int {
	size := r.BinarySize() - len(r.Digest) + sha1.Size
	switch t := named(r.Template); {
	case t == nil:
		return size - len(r.Template)
	case t.name == templateIMA:
		return size + 9
	}
	return size
}

// AppendBinary appends the record as binary_runtime_measurements shows it
// (security/integrity/ima/ima_fs.c: ima_measurements_show).
func (r *Record) AppendBinary(b []byte) ([]byte, error) {
	if len(r.Template) == 0 || len(r.Template) > maxTemplate {
		return b, ErrTemplate
	}
	if uint64(len(r.Data)) > 1<<32-1 {
		return b, ErrTooLarge
	}
	order := byteOrder(r.BigEndian)
	b = order.appendUint32(b, r.PCR)
	b = append(b, r.Digest...)
	b = order.appendUint32(b, uint32(len(r.Template)))
	b = append(b, r.Template...)
	if r.Template != templateIMA {
		b = order.appendUint32(b, uint32(len(r.Data)))
	}
	return append(b, r.Data...), nil
}

// Violation reports whether the record is a violation: the kernel lists it with
// a digest of zeros and extends the PCR with 0xff bytes
// (security/integrity/ima/ima_api.c: ima_store_template).
func (r *Record) Violation() bool {
	d := r.Digest
	if len(d) >= 8 && binary.LittleEndian.Uint64(d) != 0 {
		return false
	}
	for _, c := range d {
		if c != 0 {
			return false
		}
	}
	return len(d) > 0
}

// BootAggregate reports whether the record is the one that IMA makes first in
// every boot, over the PCRs of the firmware and the boot loader
// (security/integrity/ima/ima_init.c: ima_add_boot_aggregate).
func (r *Record) BootAggregate() bool {
	name := r.nameField()
	return len(name) <= len(bootAggregate)+1 && string(cString(name)) == bootAggregate
}

const bootAggregate = "boot_aggregate"

// Name returns the name of what was measured, a path or the name of an event,
// from the field n-ng or n; "" if there is none. The kernel replaces spaces by
// underscores in it.
func (r *Record) Name() string { return string(r.name()) }

func (r *Record) name() []byte { return cString(r.nameField()) }

// nameField returns the content of the field with the name.
func (r *Record) nameField() []byte {
	t := named(r.Template)
	if t == nil || t.name == templateIMA {
		for f, err := range r.Fields() {
			if err == nil && f.Kind() == KindText {
				return f.Data
			}
		}
		return nil
	}
	// It is the second field of all others.
	order, data := byteOrder(r.BigEndian), r.Data
	if len(data) < 4 {
		return nil
	}
	skip := 4 + uint64(order.uint32(data))
	if skip+4 > uint64(len(data)) {
		return nil
	}
	size := uint64(order.uint32(data[skip:]))
	data = data[skip+4:]
	if size > uint64(len(data)) {
		return nil
	}
	return data[:size:size]
}

// Buf returns the content of the field buf, critical data or a key as the
// kernel measured it; nil if there is none. It aliases Data.
func (r *Record) Buf() []byte {
	f, _ := r.Field("buf")
	return f.Data
}

// Clone returns a copy that aliases nothing.
func (r *Record) Clone() Record {
	c := *r
	c.Digest = bytes.Clone(r.Digest)
	c.Data = bytes.Clone(r.Data)
	return c
}

// String returns a line for people: PCR, template and name.
func (r *Record) String() string {
	return "PCR " + strconv.FormatUint(uint64(r.PCR), 10) + " " + r.Template + " " + strconv.Quote(r.Name())
}
