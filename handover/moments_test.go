package handover_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
)

// What others do at each moment of a Seal: it ends well, or with an error.

// commandHook runs a function after every command of the TPM.
type commandHook struct {
	transport.TPM
	do func(cc tpm2.TPMCC)
}

func (h *commandHook) Send(in []byte) ([]byte, error) {
	out, err := h.TPM.Send(in)
	if h.do != nil && len(in) >= 10 {
		h.do(tpm2.TPMCC(binary.BigEndian.Uint32(in[6:])))
	}
	return out, err
}

// atReading executes a handover, with do at the nth reading of the PCR in it, for every
// n that there is.
func atReading(t *testing.T, do func(b *bench, tpm *commandHook), judge func(b *bench, n int, r *handover.Report)) {
	t.Helper()
	executed := 0
	for n := 1; ; n++ {
		b := newBench(t, nil)
		tpm := &commandHook{TPM: b.TPM()}
		b.opts.TPM = tpm
		b.measure(3)
		h := b.load()
		readings, done := 0, false
		tpm.do = func(cc tpm2.TPMCC) {
			if cc != tpm2.TPMCCPCRRead {
				return
			}
			if readings++; readings == n {
				tpm.do, done = nil, true
				do(b, tpm)
			}
		}
		err := h.Execute(context.Background())
		switch {
		case err == nil && done:
			executed++
			tpm.do = nil
			judge(b, n, b.arrive())
		case err == nil:
			if n < 8 || executed == 0 {
				t.Fatalf("%d readings, %d handovers", n, executed)
			}
			return
		}
	}
}

// An agent takes the count of the list, the kernel lists a record, and the agent
// measures: its record is not where the count says.
func TestAgentMeasuresDuringSeal(t *testing.T) {
	atReading(t, func(b *bench, _ *commandHook) {
		_, count := b.List()
		b.measure(1)
		b.journaled(imalog.DefaultPCR, "agent", count)
	}, func(b *bench, n int, r *handover.Report) {
		if r.Verdict != handover.Complete {
			b.Errorf("reading %d: %v\n%v", n, r, r.Audit)
		}
	})
}

// journaled measures through the journal that all processes share; a busy one is no
// matter.
func (b *bench) journaled(pcr uint32, name string, count int) {
	b.Helper()
	boot, err := fs.ReadFile(b.FS(), "proc/sys/kernel/random/boot_id")
	if err != nil {
		b.Fatal(err)
	}
	j, err := events.OpenJournal(b.opts.StateDir, &events.JournalOptions{BootID: strings.TrimSpace(string(boot))})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	rec, err := events.NewRecord(name, []byte(name), &events.RecordOptions{PCR: pcr})
	if err != nil {
		b.Fatal(err)
	}
	_, err = (&events.Measurer{TPM: b.TPM(), PCR: pcr, Journal: j}).Measure(context.Background(), &rec, count)
	if err != nil && !errors.Is(err, events.ErrBusy) {
		b.Fatal(err)
	}
}

// The kernel lists a record and comes to extend it only after the next extend of user
// space: kexec_execute does not count what comes to lie behind it.
func TestKernelStarvedDuringSeal(t *testing.T) {
	atReading(t, func(b *bench, tpm *commandHook) {
		before := b.values()
		b.record("ima-ng", someDigest, "/slow\x00")
		b.setPCR(before)
		list, _ := b.List()
		tpm.do = func(cc tpm2.TPMCC) {
			if cc != tpm2.TPMCCPCRExtend {
				return
			}
			tpm.do = nil
			var slow imalog.Record
			for rec := range imalog.Records(list, nil) {
				slow = rec
			}
			now := b.values()
			end := imalog.NewReplayer(&imalog.ReplayOptions{Banks: []uint16{imalog.AlgSHA1, imalog.AlgSHA256}, Start: now})
			if err := end.Add(&slow); err != nil {
				b.Fatal(err)
			}
			b.setPCR(end.Values())
		}
	}, func(b *bench, n int, r *handover.Report) {
		if b.auditAlone(r); b.Failed() {
			b.Fatalf("reading %d", n)
		}
	})
}

// loadHook runs a function after the nth load.
type loadHook struct {
	*handovertest.Machine
	in int
	do func()
}

func (l *loadHook) Load(img *kexecseg.Image) error {
	err := l.Machine.Load(img)
	if l.in--; l.in == 0 {
		l.do()
	}
	return err
}

// Another process loads while one seals: that one does not jump into its image, which
// has no list yet.
func TestLoadDuringSeal(t *testing.T) {
	for n := 2; n <= 3; n++ { // the rehearsal, the last one
		b := newBench(t, nil)
		other := b.opts
		b.opts.System = &loadHook{Machine: b.Machine, in: n, do: func() {
			h, err := handover.Load(context.Background(), &handovertest.Target{}, &other)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Close() })
		}}
		h := b.load()
		b.measure(3)
		switch err := h.Execute(context.Background()); {
		case err == nil: // with its own image, loaded later
			if r := b.arrive(); r.Verdict != handover.Complete {
				t.Errorf("load %d: %v, %d records", n, r, r.List.Count)
			}
		case !errors.Is(err, handover.ErrClosed):
			t.Errorf("load %d: %v, want ErrClosed", n, err)
		default:
			b.attestable()
		}
	}
}

// A context that ends after Seal does not end what is sealed.
func TestSealedOutlivesItsContext(t *testing.T) {
	b := newBench(t, nil)
	h := b.load()
	ctx, cancel := context.WithCancel(context.Background())
	if err := h.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := h.Execute(ctx); err != nil {
		t.Error(err)
	}
}

// What is measured into another PCR through the same journal has no place here.
func TestJournalOfAnotherPCR(t *testing.T) {
	b := newBench(t, nil)
	b.opts.EventsAtLoad = true
	b.measure(2)
	if err := b.Extend(11, []byte("systemd-stub")); err != nil {
		t.Fatal(err)
	}
	_, count := b.List()
	b.journaled(11, "agent", count)
	h := b.load() // measures kexec_load into PCR 10
	b.measure(1)
	b.attestable()
	b.complete(h, 1)
}
