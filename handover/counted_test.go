package handover_test

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/imalog"
)

// record lists and extends a record of a template, with these fields.
func (b *bench) record(template string, fields ...string) {
	b.Helper()
	rec := imalog.Record{PCR: imalog.DefaultPCR, Template: template}
	for _, f := range fields {
		rec.Data = binary.LittleEndian.AppendUint32(rec.Data, uint32(len(f)))
		rec.Data = append(rec.Data, f...)
	}
	if template == "ima" {
		rec.Data = rec.Data[4:] // no length before its digest
	}
	var err error
	if rec.Digest, err = rec.AppendDigest(nil, imalog.AlgSHA1); err != nil {
		b.Fatal(err)
	}
	if err := b.MeasureRecord(rec); err != nil {
		b.Fatal(err)
	}
}

const someDigest = "sha256:\x00 a digest of thirty-two bytes, 32"

// auditAlone judges a list that was proved by what it says itself.
func (b *bench) auditAlone(r *handover.Report) *events.Boundary {
	b.Helper()
	if r.Verdict != handover.Complete {
		b.Fatalf("verdict: %v\n%v", r, r.Audit)
	}
	alone, err := events.Audit(context.Background(), r.List.Records(), nil)
	if err != nil {
		b.Fatal(err)
	}
	last := &alone.Boundaries[len(alone.Boundaries)-1]
	if last.Verdict != events.Complete || last.Execute == nil {
		b.Errorf("the PCR proves the list, and the audit without it says\n%v", alone)
	}
	return last
}

// A kernel does not count the bytes of its list as it shows them, where templates have
// no name but their format, or are "ima". Whoever measures, the figures are the same.
func TestFiguresOfTemplates(t *testing.T) {
	for template, fields := range map[string][]string{
		"ima-ng":         {someDigest, "/a\x00"},
		"d-ng|n-ng":      {someDigest, "/a\x00"}, // arrives as ima-ng
		"n-ng|d-ng":      {"/a\x00", someDigest},
		"d-ng|n-ng|iuid": {someDigest, "/a\x00", "\x00\x00\x00\x00"},
		"ima":            {"twenty bytes digest.", "/a"},
	} {
		for _, kernel := range []bool{false, true} {
			b := newBench(t, &handovertest.Options{KernelEvent: kernel})
			for range 3 {
				b.record(template, fields...)
			}
			b.attestable()
			b.execute(b.load())
			b.auditAlone(b.arrive())
			if t.Failed() {
				t.Fatalf("template %s, event of the kernel: %v", template, kernel)
			}
		}
	}
}

// A kexec_execute that the sender's kernel added, foreseen by nobody, is found missing.
func TestMissingBehindFormats(t *testing.T) {
	b := newBench(t, &handovertest.Options{KernelEvent: true})
	b.opts.KernelEvent, b.opts.TPM = handover.KernelEventNo, nil
	b.record("d-ng|n-ng|iuid", someDigest, "/a\x00", "\x00\x00\x00\x00")
	b.execute(b.load())
	if r := b.arrive(); r.Audit.Proof != events.ProvedWith {
		t.Errorf("proof: %v\n%v", r.Audit.Proof, r.Audit)
	}
}

// A kernel's kexec_execute counts less than a kexec_load of user space, of which the
// kernel knows nothing.
func TestKernelCountsLess(t *testing.T) {
	b := newBench(t, &handovertest.Options{KernelEvent: true})
	b.opts.EventsAtLoad = true
	b.load()
	b.execute(b.load())
	r := b.arrive()
	if b.auditAlone(r); r.KexecExecute < 0 {
		t.Errorf("no kexec_execute: %v", r.Audit)
	}
}

// What was deleted before Load the kernel goes on counting: its own event says how much.
func TestKernelCountsWhatWasDeleted(t *testing.T) {
	b := newBench(t, &handovertest.Options{KernelEvent: true})
	b.measure(4)
	all, count := b.List()
	figures := events.Figures{ListSize: uint64(imalog.HeaderSize + len(all)), Count: uint64(count)}
	payload, _ := figures.AppendText(nil)
	rec, err := events.NewRecord(events.KexecLoad, payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.MeasureRecord(rec); err != nil {
		t.Fatal(err)
	}
	all, _ = b.List()
	if err := b.DeleteOldest(3); err != nil {
		t.Fatal(err)
	}
	left, _ := b.List()
	b.opts.TPM = nil // user space's events lie before the kernel's
	h := b.load()
	b.opts.TPM = b.TPM()
	b.execute(h)
	whole := slices.Concat(all[:len(all)-len(left)], b.arrive().List.Binary)
	res, err := imalog.Verify(t.Context(), imalog.Records(whole, nil), b.values(), nil)
	if err != nil || !res.Matched() {
		t.Errorf("what was deleted and what arrived do not replay: %v", err)
	}
}

// Loaded in one process and sealed in another, and deleted from in between.
func TestDeletedBetweenProcesses(t *testing.T) {
	b := newBench(t, nil)
	b.opts.Persist = true
	b.measure(10)
	b.DeleteOldest(2)
	b.load().Close()
	b.DeleteOldest(5)
	b.measure(1)
	h, err := handover.Resume(context.Background(), nil, &b.opts)
	if err != nil {
		t.Fatal(err)
	}
	b.execute(h)
	r := b.arrive()
	if last := r.Audit.Boundaries[1]; last.Verdict != events.Complete || last.Execute == nil {
		t.Errorf("%v", r.Audit)
	}
}

// Violations that are all alike, some deleted and some more since.
func TestDeletedAmongViolations(t *testing.T) {
	b := newBench(t, nil)
	violations := func(n int) {
		for range n {
			err := b.MeasureRecord(imalog.Record{PCR: imalog.DefaultPCR, Digest: make([]byte, 20), Template: "ima-ng",
				Data: []byte("\x08\x00\x00\x00sha256:\x00\x03\x00\x00\x00/v\x00")})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	b.measure(3)
	violations(33)
	h := b.load()
	before, _ := b.List()
	if err := b.DeleteOldest(1); err != nil {
		t.Fatal(err)
	}
	b.measure(1)
	violations(1)
	b.execute(h)
	if r := b.arrive(); r.Verdict != handover.Complete || !strings.HasPrefix(string(r.List.Binary), string(before)) {
		t.Errorf("verdict: %v", r)
	}
}
