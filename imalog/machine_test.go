package imalog

import (
	"crypto/sha256"
	"hash"
	"strconv"
	"testing"
)

// A machine measures into a list and extends PCR banks as a kernel does, without
// any code of the replay but the hashes.
type machine struct {
	t      testing.TB
	list   []Record
	banks  Values
	padded map[uint16]bool
	files  int
}

func newMachine(t testing.TB, banks ...uint16) *machine {
	m := &machine{t: t, banks: Values{}, padded: map[uint16]bool{}}
	for _, alg := range banks {
		m.banks[alg] = make([]byte, AlgSize(alg))
	}
	return m
}

// pad says which banks the kernel lacks the hash of from now on.
func (m *machine) pad(algs ...uint16) {
	clear(m.padded)
	for _, alg := range algs {
		m.padded[alg] = true
	}
}

// record makes a record without measuring it.
func (m *machine) record(template string, fields ...string) Record {
	rec := Record{PCR: DefaultPCR, Template: template}
	for _, f := range fields {
		rec.Data = byteOrder(false).appendUint32(rec.Data, uint32(len(f)))
		rec.Data = append(rec.Data, f...)
	}
	var err error
	if rec.Digest, err = rec.AppendDigest(nil, AlgSHA1); err != nil {
		m.t.Fatal(err)
	}
	return rec
}

func (m *machine) file(name string) Record {
	sum := sha256.Sum256([]byte(name))
	return m.record("ima-ng", "sha256:\x00"+string(sum[:]), name+"\x00")
}

func (m *machine) event(name, payload string) Record {
	sum := sha256.Sum256([]byte(payload))
	return m.record("ima-buf", "sha256:\x00"+string(sum[:]), name+"\x00", payload)
}

// measure lists a record and extends it.
func (m *machine) measure(rec Record) {
	m.list = append(m.list, rec)
	m.extend(rec)
}

func (m *machine) extend(rec Record) {
	if rec.PCR != DefaultPCR {
		return
	}
	for alg, value := range m.banks {
		var digest []byte
		switch {
		case rec.Violation():
			for range value {
				digest = append(digest, 0xff)
			}
		case m.padded[alg]:
			digest, _ = rec.AppendDigest(nil, AlgSHA1)
			digest = append(digest, make([]byte, len(value)-len(digest))...)
		default:
			digest = m.sum(alg, rec.Data)
		}
		m.banks[alg] = m.sum(alg, append(value, digest...))
	}
}

func (m *machine) sum(alg uint16, b []byte) []byte {
	if alg == AlgSM3_256 {
		h := newSM3()
		h.Write(b)
		return h.Sum(nil)
	}
	rec := Record{Template: "ima-ng", Data: b}
	sum, err := rec.AppendDigest(nil, alg)
	if err != nil {
		m.t.Fatal(err)
	}
	return sum
}

// boot starts a kernel; version may be empty.
func (m *machine) boot(version string) {
	m.measure(m.file(bootAggregate))
	if version != "" {
		m.measure(m.event(kernelVersion, version))
	}
}

// run measures so many new files.
func (m *machine) run(n int) {
	for range n {
		m.files++
		m.measure(m.file("/bin/" + strconv.Itoa(m.files)))
	}
}

func (m *machine) violation(name string) {
	rec := m.file(name)
	clear(rec.Digest)
	m.measure(rec)
}

// all yields the records, as Records does.
func all(list []Record) func(func(Record, error) bool) {
	return func(yield func(Record, error) bool) {
		for _, rec := range list {
			if !yield(rec, nil) {
				return
			}
		}
	}
}

func sm3Hashes() map[uint16]func() hash.Hash {
	return map[uint16]func() hash.Hash{AlgSM3_256: newSM3}
}
