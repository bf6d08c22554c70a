package imalog

import (
	"slices"
	"strconv"
	"strings"
)

// A Finding says what is wrong with a list, or why it does not yield the wanted
// values. It is never a guess: the wanted values of its Banks prove it, or,
// without banks, it is what the list itself shows.
type Finding struct {
	Kind   FindingKind
	Record int // index of the record, or of the one before which something is missing
	// Missing is the record that FindingMissing is about.
	Missing *Record
	// Listed and Found are the numbers of records before Record by its own account
	// and in the list, for FindingCount.
	Listed, Found uint64
	Banks         []uint16 // whose wanted values prove it, in order
}

// FindingKind is what a Finding is about.
type FindingKind uint8

const (
	// FindingDigest: the digest listed is not that of the record's data. Banks are
	// those which prove the data, so that the digest is wrong. That may be the zeros
	// that make the record a violation.
	FindingDigest FindingKind = iota + 1
	// FindingData: the data is not what was measured; the digest listed is.
	FindingData
	// FindingMissing: a record was extended before Record that is not in the list.
	// It is known what it was: the kernel's own kexec_execute, which comes after a
	// list was read.
	FindingMissing
	// FindingExtra: the record is listed and was never extended.
	FindingExtra
	// FindingTrimmed: the list does not begin with a boot_aggregate. Its oldest
	// records were deleted, and it can be replayed only from the value that the
	// PCR had then: ReplayOptions.Start.
	FindingTrimmed
	// FindingCount: a kexec_load or kexec_execute says that another number of
	// records was before it: records were lost between, or deleted.
	FindingCount
	// FindingUnsealed: the boot before Record ended without a kexec_execute, so
	// nothing shows that its last records are in the list.
	FindingUnsealed
	// FindingUnexplained: no assumption about single records or about padded banks
	// leads to the wanted values. The PCR was extended with something that is
	// not in the list: a list that was lost or not carried over a kexec whole, or
	// extends by something other than IMA.
	FindingUnexplained
)

func (k FindingKind) String() string {
	switch k {
	case FindingDigest:
		return "digest"
	case FindingData:
		return "data"
	case FindingMissing:
		return "missing"
	case FindingExtra:
		return "extra"
	case FindingTrimmed:
		return "trimmed"
	case FindingCount:
		return "count"
	case FindingUnsealed:
		return "unsealed"
	case FindingUnexplained:
		return "unexplained"
	}
	return "unknown"
}

// String returns the finding as a sentence.
func (f Finding) String() string {
	rec := "record " + strconv.Itoa(f.Record)
	var s string
	switch f.Kind {
	case FindingDigest:
		s = rec + ": the digest listed is not that of the data"
		if len(f.Banks) > 0 {
			s += ", and the data is what was measured"
		}
	case FindingData:
		s = rec + ": the data is not what was measured; the digest listed is"
	case FindingMissing:
		s = "before " + rec + ": a record was extended that is not in the list: " + f.Missing.String() + " " + string(f.Missing.Buf())
	case FindingExtra:
		s = rec + " is listed and was never extended"
	case FindingTrimmed:
		s = "the list begins within a boot: its oldest records were deleted, and it replays only from the value that the PCR had then"
	case FindingCount:
		s = rec + " says that " + strconv.FormatUint(f.Listed, 10) + " records were before it; the list has " + strconv.FormatUint(f.Found, 10)
	case FindingUnsealed:
		s = "the boot before " + rec + " ended without a kexec_execute: nothing shows that its last records are in the list"
	case FindingUnexplained:
		s = "the PCR was extended with something that is not in the list"
	}
	if len(f.Banks) > 0 {
		names := make([]string, len(f.Banks))
		for i, alg := range f.Banks {
			names[i] = AlgName(alg)
		}
		s += " (proved by " + strings.Join(names, ", ") + ")"
	}
	return s
}

// find adds what a bank proves.
func (r *Result) find(c *choice, alg uint16, g *guesser) {
	f := Finding{Record: c.record}
	switch c.kind {
	case choiceGuess:
		f.Kind = FindingMissing
		missing := g.made[c.record]
		f.Missing = &missing
	case choiceListed:
		f.Kind = FindingData
	case choiceData:
		f.Kind = FindingDigest
	case choiceExtra:
		f.Kind = FindingExtra
	}
	for i := range r.Findings {
		if g := &r.Findings[i]; g.Kind == f.Kind && g.Record == f.Record {
			g.Banks = append(g.Banks, alg)
			slices.Sort(g.Banks)
			return
		}
	}
	f.Banks = []uint16{alg}
	r.Findings = append(r.Findings, f)
}

// findings adds what the list shows by itself.
func (v *verifier) findings(r *Result, g *guesser) {
	var proved, open []uint16
	explained := false
	for i := range r.Banks {
		b := &r.Banks[i]
		if b.Prefix > 0 {
			proved = append(proved, b.Alg)
		}
		if b.Checked && b.Prefix < 0 && !b.Explained {
			open = append(open, b.Alg)
		}
		explained = explained || b.Explained
	}
	about := func(kind FindingKind, record int) bool {
		return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind == kind && f.Record == record })
	}
	for _, i := range v.seen.bad {
		if !about(FindingData, i) {
			f := Finding{Kind: FindingDigest, Record: i}
			for _, alg := range proved {
				if i < r.bank(alg).Prefix {
					f.Banks = append(f.Banks, alg)
				}
			}
			r.Findings = append(r.Findings, f)
		}
	}
	if len(open) > 0 && !explained {
		if g != nil && !v.seen.whole {
			r.Findings = append(r.Findings, Finding{Kind: FindingTrimmed})
		}
		r.Findings = append(r.Findings, Finding{Kind: FindingUnexplained, Banks: open})
		if g != nil {
			r.Findings = append(r.Findings, g.findings...)
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return a.Record - b.Record })
}

// A guesser makes the records that a kernel may have extended after its list was
// read: a kernel with CONFIG_IMA_KEXEC that measures critical data adds a
// kexec_execute inside reboot(2), whatever carries the list. Everything in it is
// known beforehand.
type guesser struct {
	pcr      uint32
	made     map[int]Record
	findings []Finding // what the list shows by itself

	size     uint64 // bytes of the list so far
	segment  uint64 // of the boot's last kexec_load
	alg      uint16 // of the digests in d-ng
	executed bool   // the boot's last record so far is a kexec_execute
}

func newGuesser(pcr uint32) *guesser { return &guesser{pcr: pcr} }

// reset prepares for another pass.
func (g *guesser) reset() *guesser {
	*g = guesser{pcr: g.pcr, made: map[int]Record{}}
	return g
}

// see takes note of a record of the list.
func (g *guesser) see(i int, rec *Record) {
	g.executed = false
	switch name := rec.name(); string(name) {
	case bootAggregate:
		g.segment = 0
		if d, ok := rec.FileDigest(); ok && d.Alg() != "" {
			g.alg, _ = AlgByName(d.Alg())
		}
	case kexecLoad, kexecExecute:
		f := parseFigures(rec.Buf())
		if !f.ok {
			break
		}
		if string(name) == kexecLoad {
			g.segment = f.segment
		}
		g.executed = string(name) == kexecExecute
		if f.count != uint64(i) {
			g.findings = append(g.findings, Finding{Kind: FindingCount, Record: i, Listed: f.count, Found: uint64(i)})
		}
	}
	g.size += uint64(rec.KernelSize())
}

// boundary makes the record that may be missing before a boot.
func (g *guesser) boundary(i int) Record {
	if !g.executed {
		g.findings = append(g.findings, Finding{Kind: FindingUnsealed, Record: i})
	}
	buf := figures{segment: g.segment, size: HeaderSize + g.size, count: uint64(i)}.append(nil)
	alg := g.alg
	var sum [maxDigest]byte
	n := sumInto(sum[:], alg, buf)
	if n == 0 {
		alg = AlgSHA256
		n = sumInto(sum[:], alg, buf)
	}
	d := NewFileDigest("", AlgName(alg), sum[:n])
	rec := Record{PCR: g.pcr, Template: "ima-buf"}
	for _, field := range [][]byte{d.Append(nil, "d-ng"), []byte(kexecExecute + "\x00"), buf} {
		rec.Data = byteOrder(false).appendUint32(rec.Data, uint32(len(field)))
		rec.Data = append(rec.Data, field...)
	}
	rec.Digest, _ = rec.AppendDigest(nil, AlgSHA1) // cannot fail: it is not template "ima"
	g.made[i] = rec
	return rec
}
