package handover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
	"github.com/imakexec/imakexec/kexecseg"
)

// bench is a machine, its state directory and what a test does with them.
type bench struct {
	*testing.T
	*handovertest.Machine
	soft  *softtpm.TPM
	opts  handover.Options
	files int
}

func newBench(t *testing.T, opts *handovertest.Options) *bench {
	t.Helper()
	m, err := handovertest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, Machine: m}
	b.soft, _ = m.TPM().(*softtpm.TPM)
	b.opts = handover.Options{TPM: m.TPM(), System: m, StateDir: filepath.Join(t.TempDir(), "state")}
	return b
}

// measure measures n new files.
func (b *bench) measure(n int) {
	b.Helper()
	for range n {
		b.files++
		if err := b.MeasureFile(fmt.Sprintf("/usr/bin/tool-%d", b.files), []byte{byte(b.files)}); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bench) load() *handover.Handover {
	b.Helper()
	h, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { h.Close() })
	return h
}

func (b *bench) execute(h *handover.Handover) {
	b.Helper()
	if err := h.Execute(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) readOptions() *handover.ReadOptions {
	return &handover.ReadOptions{TPM: b.opts.TPM, System: b.opts.System, StateDir: b.opts.StateDir}
}

// arrive returns the report of the present boot.
func (b *bench) arrive() *handover.Report {
	b.Helper()
	r, err := handover.Arrive(context.Background(), b.readOptions())
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// attestable fails the test unless an agent that reads now has a list that
// replays in every bank, and returns it.
func (b *bench) attestable() *handover.List {
	b.Helper()
	list, err := handover.ReadList(context.Background(), b.readOptions())
	if err != nil {
		b.Fatal(err)
	}
	if !list.Proof.Proved {
		b.Fatalf("the machine cannot be attested: %v", list.Proof)
	}
	return list
}

// complete executes and wants everything that was measured to arrive.
func (b *bench) complete(h *handover.Handover, between int) *handover.Report {
	b.Helper()
	before, count := b.List()
	b.execute(h)
	r := b.arrive()
	if r.Verdict != handover.Complete {
		b.Fatalf("verdict: %v", r)
	}
	if b.opts.TPM == nil {
		if !bytes.HasPrefix(r.List.Binary, before) {
			b.Fatal("the list did not arrive as it was")
		}
		return r
	}
	if r.Between != between {
		b.Errorf("%d records between load and execute, want %d", r.Between, between)
	}
	if !bytes.HasPrefix(withoutEvents(b.T, r.List.Binary), withoutEvents(b.T, before)) {
		b.Fatalf("the %d records of the sender did not arrive in order", count)
	}
	return r
}

// withoutEvents is a list without kexec_load and kexec_execute.
func withoutEvents(t *testing.T, list []byte) []byte {
	t.Helper()
	var out []byte
	for rec, err := range imalog.Records(list, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if name := rec.Name(); name != events.KexecLoad && name != events.KexecExecute {
			if out, err = rec.AppendBinary(out); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func TestSoftReboot(t *testing.T) {
	all := []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}
	for name, tc := range map[string]struct {
		machine handovertest.Options
		atLoad  bool
		sysfs   bool // no TPM in Options: proved against sysfs, no events
	}{
		"two banks":           {},
		"four banks":          {machine: handovertest.Options{Banks: all}},
		"padded banks":        {machine: handovertest.Options{Banks: all, Padded: all[2:]}},
		"events at load":      {atLoad: true},
		"padded and at load":  {machine: handovertest.Options{Banks: all, Padded: all[2:]}, atLoad: true},
		"sha1 only":           {machine: handovertest.Options{Banks: all[:1]}},
		"sha384 only, padded": {machine: handovertest.Options{Banks: all[2:3], Padded: all[2:3]}},
		"proved by sysfs":     {sysfs: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, &tc.machine)
			b.opts.EventsAtLoad = tc.atLoad
			if tc.sysfs {
				b.opts.TPM = nil
			}
			b.measure(20)
			if r := b.arrive(); r.Verdict != handover.ColdBoot {
				t.Fatalf("before: %v", r)
			}
			for boot := range 3 {
				h := b.load()
				b.measure(5)
				b.attestable()
				r := b.complete(h, 5)
				if r.Boots != boot+2 {
					t.Errorf("%d boots in the list, want %d", r.Boots, boot+2)
				}
				b.measure(3)
				b.attestable()
			}
		})
	}
}

// The two events lie where the PCR has them, and an agent finds them before the
// jump as the next kernel does after it.
func TestReadListBetween(t *testing.T) {
	b := newBench(t, nil)
	b.opts.EventsAtLoad = true
	b.measure(4)
	h := b.load()
	b.measure(2)
	list := b.attestable()
	if want := []int{5}; !slices.Equal(list.Own, want) {
		t.Fatalf("records of user space at %v, want %v", list.Own, want)
	}
	quote, err := (&events.Measurer{TPM: b.opts.TPM, PCR: 10}).Values(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.measure(1)
	if err := h.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	if list = b.attestable(); !slices.Equal(list.Own, []int{5, 9}) {
		t.Errorf("after seal: records of user space at %v, want [5 9]", list.Own)
	}

	// A quote of some time ago is proved by the list of that time.
	o := b.readOptions()
	o.Values = quote
	old, err := handover.ReadList(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !old.Proof.Proved || old.Count != 8 || !bytes.HasPrefix(list.Binary, old.Binary) {
		t.Errorf("the quote is proved by %d records (%v), want 8", old.Count, old.Proof)
	}
	b.execute(h)
	if r := b.arrive(); r.Verdict != handover.Complete || r.KexecLoad != 5 || r.KexecExecute != 9 || r.Between != 3 {
		t.Errorf("%v: kexec_load %d, kexec_execute %d, %d between; want 5, 9, 3", r, r.KexecLoad, r.KexecExecute, r.Between)
	}
}

// Whenever a quote was made, the list proves it, with the records of that moment.
func TestQuotes(t *testing.T) {
	b := newBench(t, nil)
	b.opts.EventsAtLoad = true
	var quotes []imalog.Values
	quote := func() {
		t.Helper()
		v, err := (&events.Measurer{TPM: b.opts.TPM, PCR: 10}).Values(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		quotes = append(quotes, v)
	}
	measure := func(n int) {
		for range n {
			b.measure(1)
			quote()
		}
	}
	quote() // of boot_aggregate
	measure(4)
	h := b.load()
	quote()
	measure(3)
	if err := h.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	quote()
	measure(2)
	all := b.attestable()
	for i, v := range quotes {
		o := b.readOptions()
		o.Values = v
		list, err := handover.ReadList(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		own := 0
		for _, at := range []int{5, 9} {
			if at <= i {
				own++
			}
		}
		if !list.Proof.Proved || list.Count != i+1 || len(list.Own) != own || !bytes.HasPrefix(all.Binary, list.Binary) {
			t.Errorf("quote %d: %d records, %d of user space, %v; want %d, %d", i, list.Count, len(list.Own), list.Proof, i+1, own)
		}
		if want := all.Count - list.Count; list.Later != want {
			t.Errorf("quote %d: %d records later, want %d", i, list.Later, want)
		}
	}
}

// A kernel that measures kexec_execute by itself does so after the last look at
// its list: the record is foreseen.
func TestKernelEvent(t *testing.T) {
	b := newBench(t, &handovertest.Options{KernelEvent: true})
	b.measure(3)
	for range 2 {
		h := b.load()
		b.measure(2)
		b.execute(h)
		r := b.arrive()
		if r.Verdict != handover.Complete || r.KexecLoad < 0 || r.KexecExecute != r.KexecLoad+1 {
			t.Fatalf("%v: kexec_load %d, kexec_execute %d", r, r.KexecLoad, r.KexecExecute)
		}
	}
	b.opts.KernelEvent = handover.KernelEventNo // wrong, to see that it matters
	b.execute(b.load())
	if r := b.arrive(); r.Verdict != handover.Lost {
		t.Errorf("verdict %v without foresight, want lost", r)
	}
}

func TestBufferGrows(t *testing.T) {
	b := newBench(t, nil)
	h := b.load()
	small := h.Status().Buffer
	b.measure(500)
	b.complete(h, 500)
	if got := h.Status().Buffer; got <= small {
		t.Errorf("buffer of %d bytes did not grow from %d", got, small)
	}
}

func TestLoadTenTimes(t *testing.T) {
	b := newBench(t, nil)
	var h, first *handover.Handover
	for range 10 {
		h = b.load()
		if first == nil {
			first = h
		}
		b.measure(3)
	}
	if err := first.Execute(context.Background()); !errors.Is(err, handover.ErrClosed) {
		t.Errorf("the replaced handover: %v, want ErrClosed", err)
	}
	b.complete(h, 3)
}

func TestMeasuredDuringLoad(t *testing.T) {
	t.Run("for a while", func(t *testing.T) {
		b := newBench(t, nil)
		h := b.load()
		b.Faults.MeasureDuringLoad = 5
		b.execute(h)
		if r := b.arrive(); r.Verdict != handover.Complete {
			t.Errorf("verdict: %v", r)
		}
	})
	t.Run("always", func(t *testing.T) {
		b := newBench(t, nil)
		h := b.load()
		b.Faults.MeasureDuringLoad = 1000
		err := h.Execute(context.Background())
		var op *handover.OpError
		if !errors.Is(err, handover.ErrGrowing) || !errors.As(err, &op) || !op.Loaded {
			t.Fatalf("error %v, want ErrGrowing with an image loaded", err)
		}
		if list := b.attestable(); len(list.Own) != 0 {
			t.Errorf("%d events were measured by an execute that could not succeed", len(list.Own))
		}
		b.Faults.MeasureDuringLoad = 0
		b.complete(h, 0+8)
	})
}

func TestStrangerExtends(t *testing.T) {
	b := newBench(t, nil)
	b.measure(3)
	h := b.load()
	b.measure(2)
	if err := b.Extend(10, []byte("stranger")); err != nil {
		t.Fatal(err)
	}
	b.measure(2)
	loads := b.Loads()
	for range 2 { // it stays refused
		err := h.Execute(context.Background())
		if !errors.Is(err, handover.ErrNotProved) {
			t.Fatalf("error %v, want ErrNotProved", err)
		}
	}
	if b.Loads() != loads || b.Boots() != 0 {
		t.Error("the list was loaded, or the machine rebooted, all the same")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	// The next Load knows that the list is broken, and carries it.
	h = b.load()
	if p := h.Status().Proof; p.Proved || p.Since != 0 {
		t.Errorf("proof %+v, want not proved since record 0", p)
	}
	b.measure(2)
	before, _ := b.List()
	b.execute(h)
	if got, _ := b.List(); !bytes.HasPrefix(got, before) {
		t.Error("the broken list was not carried as it was")
	}
	if r := b.arrive(); r.Verdict != handover.Lost {
		t.Errorf("verdict: %v, want lost", r)
	}
}

func TestStrangerAllowed(t *testing.T) {
	b := newBench(t, nil)
	b.opts.AllowUnproved = true
	h := b.load()
	if err := b.Extend(10, []byte("stranger")); err != nil {
		t.Fatal(err)
	}
	b.measure(1)
	before, _ := b.List()
	b.execute(h)
	if got, _ := b.List(); !bytes.HasPrefix(got, before) {
		t.Error("the list was not carried")
	}
}

// Plain kexec loses the list; from then on everything is carried, and the gap
// stays where it was.
func TestBrokenBefore(t *testing.T) {
	b := newBench(t, nil)
	b.measure(5)
	plain, err := (&handovertest.Target{}).Plan(context.Background(), plainRequest(t, b.Machine))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Load(plain); err != nil {
		t.Fatal(err)
	}
	if err := b.Kexec(); err != nil {
		t.Fatal(err)
	}
	if r := b.arrive(); r.Verdict != handover.Lost || r.Since != 0 {
		t.Fatalf("verdict %v since %d, want lost since 0", r, r.Since)
	}
	b.opts.Strict = true
	if _, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts); !errors.Is(err, handover.ErrNotProved) {
		t.Errorf("strict load: %v, want ErrNotProved", err)
	}
	b.opts.Strict = false
	h := b.load()
	b.measure(3)
	before, _ := b.List()
	b.execute(h)
	r := b.arrive()
	if r.Verdict != handover.Lost || r.Since != 0 || !bytes.HasPrefix(r.List.Binary, before) {
		t.Errorf("verdict %v since %d, want the whole list, lost since 0", r, r.Since)
	}
	if r.Between != 3 || r.KexecExecute < 0 {
		t.Errorf("kexec_execute %d with %d records between, want 3", r.KexecExecute, r.Between)
	}
}

func plainRequest(t *testing.T, m *handovertest.Machine) *kexecseg.Request {
	t.Helper()
	memory, err := kexecseg.ReadMemoryMap(m.FS())
	if err != nil {
		t.Fatal(err)
	}
	return &kexecseg.Request{Memory: memory, Root: m.FS()}
}

// Whatever is refused before the jump leaves list and PCR as they were.
func TestRefused(t *testing.T) {
	refusal := &kexecseg.RefusedError{Op: "kexec_load", Reason: kexecseg.ErrLockdown}
	t.Run("load", func(t *testing.T) {
		b := newBench(t, nil)
		b.measure(3)
		want := b.attestable()
		b.Faults.Load = refusal
		_, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts)
		if !errors.Is(err, kexecseg.ErrLockdown) {
			t.Fatalf("error %v, want ErrLockdown", err)
		}
		if got := b.attestable(); !bytes.Equal(got.Binary, want.Binary) {
			t.Error("a refused load changed the list")
		}
		b.Faults.Load = nil
		b.complete(b.load(), 0)
	})
	t.Run("execute", func(t *testing.T) {
		b := newBench(t, nil)
		h := b.load()
		b.measure(3)
		want := b.attestable()
		b.Faults.Load = refusal
		var op *handover.OpError
		if err := h.Execute(context.Background()); !errors.As(err, &op) || !errors.Is(err, kexecseg.ErrLockdown) || !op.Loaded {
			t.Fatalf("error %v, want ErrLockdown with an image still loaded", err)
		}
		if got := b.attestable(); !bytes.Equal(got.Binary, want.Binary) {
			t.Error("a refused execute changed the list")
		}
		b.Faults.Load = nil
		b.complete(h, 3)
	})
	t.Run("reboot", func(t *testing.T) {
		b := newBench(t, nil)
		h := b.load()
		b.Faults.Kexec = errors.New("no")
		if err := h.Execute(context.Background()); err == nil {
			t.Fatal("execute succeeded without a kexec")
		}
		if list := b.attestable(); len(list.Own) != 2 {
			t.Errorf("%d events in the list, want kexec_load and kexec_execute", len(list.Own))
		}
		b.Faults.Kexec = nil
		b.measure(2)
		r := b.arrive()
		if r.Verdict != handover.ColdBoot {
			t.Errorf("after a failed execute: %v", r)
		}
		b.execute(h)
		if r := b.arrive(); r.Verdict != handover.Complete {
			t.Errorf("verdict: %v", r)
		}
	})
}

// A TPM that dies in the middle of an extend leaves a machine that can be
// attested, whether the extend happened or not.
func TestTPMDies(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, skip := range []int{0, 1} { // kexec_load, kexec_execute
			t.Run(fmt.Sprintf("event %d, done %v", skip, done), func(t *testing.T) {
				b := newBench(t, nil)
				h := b.load()
				b.measure(2)
				b.soft.Inject(softtpm.Fault{Command: tpm2.TPMCCPCRExtend, Err: errors.New("transport died"), Done: done, Skip: skip})
				err := h.Execute(context.Background())
				if done && err != nil || !done && err == nil {
					t.Fatalf("error %v of an extend that was done: %v", err, done)
				}
				if done {
					if r := b.arrive(); r.Verdict != handover.Complete {
						t.Errorf("verdict: %v", r)
					}
					return
				}
				if list := b.attestable(); len(list.Own) != skip {
					t.Errorf("%d events in the list, want %d", len(list.Own), skip)
				}
				b.execute(h)
				if r := b.arrive(); r.Verdict != handover.Complete {
					t.Errorf("verdict after another execute: %v", r)
				}
			})
		}
	}
}

// A crash between the journal and the extend leaves one record too many in the
// journal, and replay finds it.
func TestJournaledAndNeverExtended(t *testing.T) {
	b := newBench(t, nil)
	b.measure(2)
	h := b.load()
	b.soft.Inject(softtpm.Fault{Err: errors.New("power of the process fails"), Command: tpm2.TPMCCPCRExtend, Times: -1})
	if err := h.Execute(context.Background()); err == nil {
		t.Fatal("execute succeeded without a TPM")
	}
	h.Close()
	b.soft.Repair()
	if list := b.attestable(); len(list.Own) != 0 {
		t.Errorf("%d events in the list, none was extended", len(list.Own))
	}
	h, err := handover.Resume(context.Background(), &handovertest.Target{}, &b.opts)
	if err != nil {
		t.Fatal(err)
	}
	b.complete(h, 0)
}

func TestUnload(t *testing.T) {
	b := newBench(t, nil)
	b.opts.EventsAtLoad = true
	h := b.load()
	b.measure(2)
	if err := h.Unload(); err != nil {
		t.Fatal(err)
	}
	b.attestable()
	if err := b.Kexec(); !errors.Is(err, kexecseg.ErrNotLoaded) {
		t.Errorf("kexec after unload: %v", err)
	}
	if err := h.Seal(context.Background()); !errors.Is(err, handover.ErrClosed) {
		t.Errorf("seal after unload: %v, want ErrClosed", err)
	}
	if _, err := handover.Resume(context.Background(), nil, &b.opts); !errors.Is(err, handover.ErrNothingLoaded) {
		t.Errorf("resume after unload: %v, want ErrNothingLoaded", err)
	}
	b.complete(b.load(), 0) // the kexec_load of the first load is carried too
}

func TestResume(t *testing.T) {
	ctx := context.Background()
	t.Run("persisted", func(t *testing.T) {
		b := newBench(t, nil)
		b.opts.Persist = true
		b.load().Close()
		b.measure(4)
		h, err := handover.Resume(ctx, nil, &b.opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Seal(ctx); err != nil {
			t.Fatal(err)
		}
		h.Close()
		if err := b.Kexec(); err != nil { // somebody else jumps
			t.Fatal(err)
		}
		if r := b.arrive(); r.Verdict != handover.Complete || r.Between != 4 {
			t.Errorf("verdict %v, %d between; want complete, 4", r, r.Between)
		}
	})
	t.Run("planned again", func(t *testing.T) {
		b := newBench(t, nil)
		b.load().Close()
		b.measure(400)
		h, err := handover.Resume(ctx, &handovertest.Target{}, &b.opts)
		if err != nil {
			t.Fatal(err)
		}
		b.complete(h, 400)
	})
	t.Run("outgrown", func(t *testing.T) {
		b := newBench(t, nil)
		b.opts.Persist = true
		b.load().Close()
		b.measure(400)
		h, err := handover.Resume(ctx, nil, &b.opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Seal(ctx); !errors.Is(err, handover.ErrOutgrown) {
			t.Fatalf("seal: %v, want ErrOutgrown", err)
		}
		b.attestable()
		h.Close()

		b.opts.Truncate = true
		if h, err = handover.Resume(ctx, nil, &b.opts); err != nil {
			t.Fatal(err)
		}
		b.execute(h)
		r := b.arrive()
		if r.Verdict != handover.Truncated || r.Missing != h.Status().Cut || r.Missing == 0 {
			t.Errorf("verdict %v; %d missing, %d were cut", r, r.Missing, h.Status().Cut)
		}
	})
	t.Run("not persisted and no target", func(t *testing.T) {
		b := newBench(t, nil)
		b.load().Close()
		if _, err := handover.Resume(ctx, nil, &b.opts); err == nil {
			t.Error("resumed without an image or a way to plan one")
		}
	})
	t.Run("of another boot", func(t *testing.T) {
		b := newBench(t, nil)
		b.opts.Persist = true
		b.complete(b.load(), 0)
		if _, err := handover.Resume(ctx, nil, &b.opts); !errors.Is(err, handover.ErrNothingLoaded) {
			t.Errorf("resume in the next boot: %v, want ErrNothingLoaded", err)
		}
	})
}

func TestNothingToProve(t *testing.T) {
	t.Run("no IMA", func(t *testing.T) {
		b := newBench(t, &handovertest.Options{NoIMA: true})
		_, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts)
		if !errors.Is(err, handover.ErrNoList) || b.Loads() != 0 {
			t.Errorf("error %v after %d loads, want ErrNoList before any", err, b.Loads())
		}
	})
	t.Run("no TPM", func(t *testing.T) {
		b := newBench(t, &handovertest.Options{NoTPM: true})
		b.measure(3)
		h := b.load()
		if p := h.Status().Proof; p.Proved || len(p.Banks) != 0 {
			t.Errorf("proof %+v without a PCR", p)
		}
		b.measure(3)
		before, _ := b.List()
		b.execute(h)
		if r := b.arrive(); r.Verdict != handover.Unproved || !bytes.HasPrefix(r.List.Binary, before) {
			t.Errorf("verdict %v, want the whole list, unproved", r)
		}
	})
	t.Run("no target", func(t *testing.T) {
		b := newBench(t, nil)
		if _, err := handover.Load(context.Background(), nil, &b.opts); err == nil {
			t.Error("loaded nothing")
		}
	})
}

// quiescer records what was asked of it.
type quiescer struct {
	calls   []string
	suspend error
}

func (q *quiescer) Suspend(context.Context) error {
	q.calls = append(q.calls, "suspend")
	return q.suspend
}
func (q *quiescer) Resume() error { q.calls = append(q.calls, "resume"); return nil }

func TestQuiesce(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, nil)
	q := &quiescer{}
	b.opts.Quiesce = q
	h := b.load()
	if len(q.calls) != 0 {
		t.Errorf("load: %v", q.calls)
	}
	b.Faults.Load = errors.New("no")
	if err := h.Seal(ctx); err == nil {
		t.Fatal("sealed without a load")
	}
	if want := []string{"suspend", "resume"}; !slices.Equal(q.calls, want) {
		t.Errorf("a seal that fails: %v, want %v", q.calls, want)
	}
	b.Faults.Load = nil
	q.calls = nil
	if err := h.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	b.Faults.Kexec = errors.New("no")
	if err := h.Execute(ctx); err == nil {
		t.Fatal("executed without a kexec")
	}
	if want := []string{"suspend", "resume"}; !slices.Equal(q.calls, want) {
		t.Errorf("seal, then an execute that fails: %v, want %v", q.calls, want)
	}
	q.calls, q.suspend = nil, errors.New("cannot be stopped")
	if err := h.Seal(ctx); !errors.Is(err, q.suspend) {
		t.Errorf("error %v, want the quiescer's", err)
	}
	if want := []string{"suspend"}; !slices.Equal(q.calls, want) {
		t.Errorf("a suspend that fails: %v, want %v", q.calls, want)
	}
}

func TestCanceled(t *testing.T) {
	b := newBench(t, nil)
	h := b.load()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Execute(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	b.attestable()
	b.complete(h, 0)
}

// A buffer that arrives damaged loses its last records: the verdict says so.
func TestBufferCut(t *testing.T) {
	b := newBench(t, nil)
	b.measure(5)
	h := b.load()
	b.Faults.CutBuffer = int(h.Status().Buffer) - 600
	b.execute(h)
	if r := b.arrive(); r.Verdict != handover.Lost || r.Since == 0 {
		t.Errorf("verdict %v since %d, want lost at the boot's boundary", r, r.Since)
	}
}
