package events

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"iter"
	"slices"
	"strconv"

	"github.com/imakexec/imakexec/imalog"
)

// Verdict is what is known of the way in which a boot came by the records
// before it.
type Verdict uint8

const (
	// Cold: a cold boot, which has no records before it. Only a proof tells it
	// from a soft reboot whose list was lost as a whole.
	Cold Verdict = iota
	// Headless: the list begins within a boot; its oldest records were deleted
	// (Linux 7.2 and later) or are staged elsewhere.
	Headless
	// Complete: a soft reboot, and nothing was lost. A proof shows it, or, where
	// there is none, a kexec_execute whose figures fit what arrived.
	Complete
	// Lost: a soft reboot on which records were lost, or came changed.
	Lost
	// Truncated: a soft reboot on which records were lost because the list was
	// cut short: fewer arrived than the payload of kexec_execute counts, or the
	// buffer had no room for kexec_execute.
	Truncated
	// Silent: a soft reboot of which the list itself says nothing, as a kernel
	// without events leaves it, and of which there is no proof either.
	Silent
	// Unproved: the list does not lead to the PCR's value, and what is wrong may
	// be here.
	Unproved
)

var verdictNames = [...]string{"cold", "headless", "complete", "lost", "truncated", "silent", "unproved"}

// String returns the verdict's name, "complete" for instance.
func (v Verdict) String() string { return nameOf(verdictNames[:], uint8(v), "Verdict") }

// MarshalText gives the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText takes such a name.
func (v *Verdict) UnmarshalText(text []byte) error {
	i := slices.Index(verdictNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("events: %q is no verdict", text)
	}
	*v = Verdict(i)
	return nil
}

// Soft reports whether the boot was a soft reboot.
func (v Verdict) Soft() bool { return v >= Complete && v <= Silent }

// Maker is who made an event.
type Maker uint8

const (
	// MakerUnknown: records before the event were lost, so that its figures
	// cannot be compared with its place.
	MakerUnknown Maker = iota
	// MakerKernel: the figures are those of the event's place, as the kernel
	// makes them. User space that measures just as early makes the same bytes.
	MakerKernel
	// MakerUser: user space. The figures are not those of the place: they were
	// taken earlier or otherwise. (A kernel's can be a record or two off when
	// another processor measures between its counting and its measuring.)
	MakerUser
)

var makerNames = [...]string{"unknown", "kernel", "user space"}

// String returns "kernel", "user space" or "unknown".
func (m Maker) String() string { return nameOf(makerNames[:], uint8(m), "Maker") }

// MarshalText gives the maker's name.
func (m Maker) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes such a name.
func (m *Maker) UnmarshalText(text []byte) error {
	i := slices.Index(makerNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("events: %q is no maker", text)
	}
	*m = Maker(i)
	return nil
}

func nameOf(names []string, i uint8, kind string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return kind + "(" + strconv.Itoa(int(i)) + ")"
}

// Proof is what the PCR says of a list.
type Proof uint8

const (
	// NoProof: there was no value to compare with, or the list has no beginning
	// to replay it from.
	NoProof Proof = iota
	// Proved: the list leads to the PCR's value, in every bank.
	Proved
	// Disproved: it does not.
	Disproved
	// ProvedWith: it does with the records that Boundary.Missing gives.
	ProvedWith
)

var proofNames = [...]string{"none", "proved", "disproved", "proved with what is missing"}

// String returns the proof's name.
func (p Proof) String() string { return nameOf(proofNames[:], uint8(p), "Proof") }

// MarshalText gives the proof's name.
func (p Proof) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes such a name.
func (p *Proof) UnmarshalText(text []byte) error {
	i := slices.Index(proofNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("events: %q is no proof", text)
	}
	*p = Proof(i)
	return nil
}

// Report is what a list tells of the boots in it.
type Report struct {
	Records int    `json:"records"`
	Bytes   uint64 `json:"bytes"` // of the list in its plain form, SHA-1 digests
	PCR     uint32 `json:"pcr"`
	Proof   Proof  `json:"proof"`
	// Covered is the number of records that the PCR's value covers when it was
	// read before the last ones were measured; Records in most cases, 0 without
	// a proof.
	Covered int `json:"covered"`
	// Boundaries has one for each boot in the list, in order.
	Boundaries []Boundary `json:"boundaries"`
	// Pending are the kexec events of the last boot: a handover that has begun.
	Pending []KexecEvent `json:"pending,omitempty"`
}

// Boundary is the beginning of a boot.
type Boundary struct {
	// Record is the index of the boot's first record, its boot_aggregate.
	Record int `json:"record"`
	// Kernel is the boot's release where the policy had it measured, else "".
	Kernel  string  `json:"kernel,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Load and Execute are the events of the handover, nil where there is none.
	// They are told by what they count, so either can come first in the list.
	Load    *KexecEvent `json:"kexec_load,omitempty"`
	Execute *KexecEvent `json:"kexec_execute,omitempty"`
	// Maker is who made the events: user space if it made one of them.
	Maker Maker `json:"maker"`
	// Between is the number of records measured between the load and the
	// execute, as their figures count.
	Between uint64 `json:"between"`
	// Loss is where records were lost, nil where none were or nobody knows.
	Loss *Loss `json:"loss,omitempty"`
	// Missing is the record that was lost, where the PCR proves it: the
	// kexec_execute that a sender's kernel measured after its list had been read.
	Missing *imalog.Record `json:"missing,omitempty"`
}

// KexecEvent is a kexec_load or kexec_execute in the list.
type KexecEvent struct {
	Record  int     `json:"record"` // index
	Name    string  `json:"name"`
	Figures Figures `json:"figures"`
	Maker   Maker   `json:"maker"`
}

// Loss is where records are missing.
type Loss struct {
	// Inferred says that the place is known by exclusion alone; then records
	// before it may as well have come changed.
	Inferred bool `json:"inferred,omitempty"`

	After   int    `json:"after"`   // index of the last record before the gap; -1: none
	Before  int    `json:"before"`  // index of the first one behind it
	Records uint64 `json:"records"` // how many; 0: not known
	Bytes   uint64 `json:"bytes"`   // how many; 0: not known
}

// AuditOptions configures Audit. The zero value judges by what the list itself
// says.
type AuditOptions struct {
	// Want are the values of the PCR after the list's last record, or after an
	// earlier one of the last boot. Nil: no proof. Banks without a hash, such as
	// SM3 where Replay brings none, are left out.
	Want imalog.Values
	// Replay is how the list is replayed, and the PCR whose events are judged.
	// Nil: PCR 10, from zeros.
	Replay *imalog.ReplayOptions
}

// Audit judges a list over many boots: for each, whether it was cold or soft
// and whether all the sender's records arrived. list must be one that can be
// ranged over again when there are values to prove it with.
//
// What the kexec events say is compared with what arrived: kexec_execute counts
// the records before it, and their bytes and 24 more (the buffer's header). Fewer
// records are Truncated, as many with fewer bytes are Lost: they are not those. With
// a value of the PCR the list is replayed, and what that proves outweighs what
// events say. A list that the PCR does not prove is tried with the kexec_execute
// that the sender's kernel would have measured at a soft reboot without one
// (security/integrity/ima/ima_kexec.c measures it inside reboot(2)): at each of
// them alone, then at all.
//
// One gap is judged by exclusion: where the PCR disproves a list with a single
// soft reboot that nothing vouches for, records were lost or changed there, since
// nothing but a reboot can do that to a kernel's list; somebody who extends the
// PCR behind the kernel's back leaves the same picture.
//
// The error is that of the list or of the context.
func Audit(ctx context.Context, list iter.Seq2[imalog.Record, error], opts *AuditOptions) (*Report, error) {
	var o AuditOptions
	if opts != nil {
		o = *opts
	}
	pcr := uint32(imalog.DefaultPCR)
	var start imalog.Values
	if o.Replay != nil {
		start = o.Replay.Start
		if o.Replay.PCR != 0 {
			pcr = o.Replay.PCR
		}
	}
	a := &auditor{ctx: ctx, list: list, opts: o, report: &Report{PCR: pcr, Boundaries: []Boundary{}}}
	if err := a.scan(); err != nil {
		return nil, fmt.Errorf("events: audit: %w", err)
	}
	for i := range a.boots {
		a.judge(i)
	}
	headless := len(a.boots) > 0 && a.report.Boundaries[0].Verdict == Headless
	if a.replays() && (!headless || start != nil) {
		if err := a.prove(); err != nil {
			return nil, fmt.Errorf("events: audit: %w", err)
		}
	}
	return a.report, nil
}

// replays reports whether there is a bank to prove the list with.
func (a *auditor) replays() bool {
	var hashes map[uint16]func() hash.Hash
	if a.opts.Replay != nil {
		hashes = a.opts.Replay.Hashes
	}
	for alg := range a.opts.Want {
		if hashes[alg] != nil || newHash(alg) != nil {
			return true
		}
	}
	return false
}

type auditor struct {
	ctx    context.Context
	list   iter.Seq2[imalog.Record, error]
	opts   AuditOptions
	report *Report
	boots  []boot
}

// boot is what scan finds of one boot.
type boot struct {
	first   int    // index of the first record
	offset  uint64 // bytes before it,
	counted uint64 // and as the kernel counts them
	whole   bool   // it begins with boot_aggregate
	alg     uint16 // of the events' digests
	events  []scanned
}

type scanned struct {
	KexecEvent
	counted uint64 // bytes before it, as the kernel counts them
	size    uint64 // its own bytes
}

// scan goes through the list once and keeps what matters at a boundary.
func (a *auditor) scan() error {
	r := a.report
	counted := uint64(0)
	for rec, err := range a.list {
		if err != nil {
			return err
		}
		if r.Records%1024 == 0 && a.ctx.Err() != nil {
			return a.ctx.Err()
		}
		if r.Records == 0 || rec.BootAggregate() {
			a.boots = append(a.boots, boot{first: r.Records, offset: r.Bytes, counted: counted, whole: rec.BootAggregate()})
			r.Boundaries = append(r.Boundaries, Boundary{Record: r.Records})
		}
		size := uint64(rec.BinarySize()-len(rec.Digest)) + uint64(imalog.AlgSize(imalog.AlgSHA1))
		a.event(&rec, size, counted)
		r.Records++
		r.Bytes += size
		counted += uint64(rec.KernelSize())
	}
	return nil
}

func (a *auditor) event(rec *imalog.Record, size, counted uint64) {
	b := &a.boots[len(a.boots)-1]
	boundary := &a.report.Boundaries[len(a.boots)-1]
	if b.alg == 0 {
		b.alg, _, _ = eventDigest(rec)
	}
	if rec.PCR != a.report.PCR {
		return
	}
	name := rec.Name()
	if labelOf(name) == "" {
		return
	}
	e, err := ParseEvent(rec)
	if err != nil {
		return
	}
	switch name {
	case KernelVersion:
		if boundary.Kernel == "" {
			boundary.Kernel = string(e.Data)
		}
	case KexecLoad, KexecExecute:
		f, err := ParseFigures(e.Data)
		if err != nil {
			return // not the kernel's, nor like it
		}
		b.alg, _, _ = eventDigest(rec)
		b.events = append(b.events, scanned{
			KexecEvent: KexecEvent{Record: a.report.Records, Name: name, Figures: f},
			counted:    counted, size: size,
		})
	}
}

// judge gives the boundary before boot i its verdict, by what the events of the
// boot before it say.
func (a *auditor) judge(i int) {
	boundary := &a.report.Boundaries[i]
	if i == len(a.boots)-1 {
		for _, e := range a.makers(i) {
			a.report.Pending = append(a.report.Pending, e.KexecEvent)
		}
	}
	if i == 0 {
		if !a.boots[0].whole {
			boundary.Verdict = Headless
		}
		return
	}
	events := a.makers(i - 1)
	load, execute := last(events, KexecLoad), last(events, KexecExecute)
	if load != nil && execute != nil && execute.Figures.Count < load.Figures.Count && execute.Record < load.Record {
		execute = nil // that of an earlier load, whose reboot failed
	}
	for _, e := range []*scanned{load, execute} {
		if e != nil {
			boundary.Maker = max(boundary.Maker, e.Maker)
		}
	}
	if load != nil {
		boundary.Load = &load.KexecEvent
	}
	switch {
	case execute != nil:
		boundary.Execute = &execute.KexecEvent
		boundary.Verdict = Complete
		// A kernel does not count what user space measured, so its kexec_execute may count
		// less than a kexec_load of user space.
		if load != nil && execute.Figures.Count >= load.Figures.Count {
			boundary.Between = execute.Figures.Count - load.Figures.Count
			base, _ := a.base(i - 1)
			if load.Record < execute.Record && boundary.Between > 0 && execute.Figures.Count >= uint64(execute.Record)+base {
				boundary.Between-- // kexec_load itself is counted, unless a kernel counted without it
			}
		}
		if loss := a.gap(i-1, events, execute); loss != nil {
			boundary.Verdict, boundary.Loss = Truncated, loss
			if loss.Records == 0 {
				boundary.Verdict = Lost
			}
		}
	case load != nil:
		boundary.Verdict = Lost
		if a.full(i, load) {
			boundary.Verdict = Truncated
		}
		boundary.Loss = &Loss{After: boundary.Record - 1, Before: boundary.Record}
	default:
		boundary.Verdict = Silent
	}
}

// makers tells who made the events of boot i, by how far their figures are from
// their places.
func (a *auditor) makers(i int) []scanned {
	b := &a.boots[i]
	base, bytes := a.base(i)
	for k := range b.events {
		e := &b.events[k]
		place, before := uint64(e.Record)+base, e.counted+imalog.HeaderSize+bytes
		switch {
		case e.Figures.Count > place:
			e.Maker = MakerUnknown
		case e.Figures.Count == place && e.Figures.ListSize == before:
			e.Maker = MakerKernel
		default:
			e.Maker = MakerUser
		}
	}
	return b.events
}

// base returns what was deleted from the front of a list that begins within
// boot i: the kernel goes on counting it. It is taken from the first event.
func (a *auditor) base(i int) (records, bytes uint64) {
	b := &a.boots[i]
	if i > 0 || b.whole || len(b.events) == 0 {
		return 0, 0
	}
	e := &b.events[0]
	if count := e.Figures.Count; count > uint64(e.Record) && count < impossible {
		records = count - uint64(e.Record)
	}
	if size := e.Figures.ListSize; size > e.counted+imalog.HeaderSize && size < impossible {
		bytes = size - e.counted - imalog.HeaderSize
	}
	return records, bytes
}

// impossible is a figure that no list has: somebody made it up.
const impossible = 1 << 62

// short returns what an event counts and did not arrive before it, base and bytes being
// what was deleted from the front.
func (e *scanned) short(base, bytes uint64) (records, size uint64) {
	if place := uint64(e.Record) + base; e.Figures.Count > place {
		records = e.Figures.Count - place
	}
	before := e.counted + imalog.HeaderSize + bytes
	if e.Figures.ListSize > before && e.Figures.ListSize < impossible {
		size = e.Figures.ListSize - before
	}
	return records, size
}

// gap returns what kexec_execute counts and did not arrive, behind the last
// event that still fits.
func (a *auditor) gap(i int, events []scanned, execute *scanned) *Loss {
	base, bytes := a.base(i)
	loss := &Loss{After: a.boots[i].first, Before: execute.Record}
	// As many records as were sent, and fewer bytes: these are not those. Where the
	// base is a guess, bytes alone tell nothing.
	if loss.Records, loss.Bytes = execute.short(base, bytes); loss.Records == 0 && (loss.Bytes == 0 || base > 0) {
		return nil
	}
	for _, e := range events {
		records, size := e.short(base, bytes)
		fits := records == 0 && (size == 0 || loss.Records > 0)
		if fits && e.Record < execute.Record {
			loss.After = e.Record
		}
	}
	// User space measures both events at once, so the gap is before them.
	if after := loss.After; after == execute.Record-1 && after > a.boots[i].first {
		loss.After, loss.Before = after-1, after
	}
	return loss
}

// full reports whether the list that arrived left no room in the buffer for
// kexec_execute, which comes last and is as long as kexec_load but for its name
// and larger figures.
func (a *auditor) full(i int, load *scanned) bool {
	arrived := a.boots[i].offset + imalog.HeaderSize
	need := load.size + uint64(len(KexecExecute)-len(KexecLoad))
	return arrived+need > load.Figures.SegmentSize && arrived <= load.Figures.SegmentSize
}

// last returns the event of a name that counts most.
func last(events []scanned, name string) *scanned {
	var found *scanned
	for i := range events {
		if e := &events[i]; e.Name == name && (found == nil || e.Figures.Count >= found.Figures.Count) {
			found = e
		}
	}
	return found
}

// prove replays the list against the wanted values and corrects the verdicts.
func (a *auditor) prove() error {
	covered, err := a.replay(a.list)
	if err != nil {
		return err
	}
	r := a.report
	if covered >= 0 {
		r.Proof, r.Covered = Proved, covered
		a.vouch(covered)
		return nil
	}
	// A kernel may have measured its kexec_execute behind the list's last record.
	var tried []int
	for i := range r.Boundaries {
		if i > 0 && r.Boundaries[i].Execute == nil {
			tried = append(tried, i)
		}
	}
	for _, at := range tried {
		if done, err := a.tryMissing([]int{at}); done || err != nil {
			return err
		}
	}
	if len(tried) > 1 {
		if done, err := a.tryMissing(tried); done || err != nil {
			return err
		}
	}
	r.Proof = Disproved
	a.doubt()
	return nil
}

// replay returns how many records of a list the wanted values cover, in every
// bank alike, and -1 when it does not lead to them behind its last boundary.
func (a *auditor) replay(list iter.Seq2[imalog.Record, error]) (int, error) {
	result, err := imalog.Verify(a.ctx, list, a.opts.Want, a.opts.Replay)
	if err != nil {
		return 0, err
	}
	covered := -1
	for _, b := range result.Banks {
		if !b.Checked {
			continue
		}
		if b.Prefix < 0 || (covered >= 0 && b.Prefix != covered) {
			return -1, nil
		}
		covered = b.Prefix
	}
	if n := len(result.Boots); n > 0 && covered <= result.Boots[n-1] {
		return -1, nil
	}
	return covered, nil
}

// vouch lets the proof outweigh what the list says of itself.
func (a *auditor) vouch(covered int) {
	for i := range a.report.Boundaries {
		if b := &a.report.Boundaries[i]; b.Record < covered && b.Verdict.Soft() {
			b.Verdict, b.Loss = Complete, nil
		}
	}
}

// doubt marks what may be wrong in a list that the PCR disproves.
func (a *auditor) doubt() {
	var open []*Boundary
	for i := range a.report.Boundaries {
		switch b := &a.report.Boundaries[i]; b.Verdict {
		case Lost, Truncated:
			return // which explains it
		case Silent:
			open = append(open, b)
		}
	}
	if len(a.report.Boundaries) == 1 {
		open = append(open, &a.report.Boundaries[0])
	}
	if len(open) == 1 && open[0].Verdict == Silent {
		b := open[0]
		b.Verdict, b.Loss = Lost, &Loss{Inferred: true, After: b.Record - 1, Before: b.Record}
		return
	}
	for _, b := range open {
		b.Verdict = Unproved
	}
}

// tryMissing replays the list with the sender's kexec_execute in front of the
// boundaries at.
func (a *auditor) tryMissing(at []int) (bool, error) {
	missing := make(map[int]imalog.Record, len(at)) // by the record they come before
	for _, i := range at {
		b, from := a.report.Boundaries[i], a.boots[i-1]
		// Each sender counts what it was given, so without what was lost before.
		f := Figures{ListSize: a.boots[i].counted + imalog.HeaderSize, Count: uint64(b.Record)}
		if b.Load != nil {
			f.SegmentSize = b.Load.Figures.SegmentSize
		}
		rec, err := PredictExecute(f, &RecordOptions{PCR: a.report.PCR, Alg: from.alg})
		if errors.Is(err, ErrAlgorithm) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		missing[b.Record] = rec
	}
	covered, err := a.replay(func(yield func(imalog.Record, error) bool) {
		i := 0
		for rec, err := range a.list {
			if lost, ok := missing[i]; ok && !yield(lost, nil) {
				return
			}
			if !yield(rec, err) || err != nil {
				return
			}
			i++
		}
	})
	if covered < 0 || err != nil {
		return false, err
	}
	a.report.Proof, a.report.Covered = ProvedWith, covered-len(at)
	a.vouch(a.report.Covered)
	for _, i := range at {
		b := &a.report.Boundaries[i]
		rec := missing[b.Record]
		b.Verdict, b.Missing = Lost, &rec
		b.Loss = &Loss{After: b.Record - 1, Before: b.Record, Records: 1, Bytes: uint64(rec.BinarySize())}
	}
	return true, nil
}

// PredictExecute returns the kexec_execute that a kernel with CONFIG_IMA_KEXEC
// and a rule for its label measures inside reboot(2), also when it was loaded by
// kexec_load(2): f has the segment size of its own last kexec_load, 0 if it
// measured none, and the list as it is by then.
func PredictExecute(f Figures, opts *RecordOptions) (imalog.Record, error) {
	payload, err := f.AppendText(nil)
	if err != nil {
		return imalog.Record{}, err
	}
	return NewRecord(KexecExecute, payload, opts)
}
