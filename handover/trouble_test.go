package handover_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
	"github.com/imakexec/imakexec/kexecseg"
)

// elsewhere measures an event through the same journal, as another process does.
func (b *bench) elsewhere(name string) {
	b.Helper()
	_, count := b.List()
	b.journaled(imalog.DefaultPCR, name, count)
}

func (b *bench) values() imalog.Values {
	b.Helper()
	v, err := (&events.Measurer{TPM: b.TPM(), PCR: 10}).Values(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// wantLoaded wants an error that says whether an image is loaded.
func wantLoaded(t *testing.T, err error, loaded bool) {
	t.Helper()
	var op *handover.OpError
	if !errors.As(err, &op) || op.Loaded != loaded {
		t.Errorf("error %v: want one that says loaded %v", err, loaded)
	}
}

// suspendHook runs a function while Seal waits for the machine to be quiet.
type suspendHook struct {
	do      func()
	resumed int
}

func (q *suspendHook) Suspend(context.Context) error {
	if do := q.do; do != nil {
		q.do = nil
		do()
	}
	return nil
}
func (q *suspendHook) Resume() error { q.resumed++; return nil }

// tpmHook runs a function before the first command that it sees.
type tpmHook struct {
	transport.TPM
	do func()
}

func (h *tpmHook) Send(in []byte) ([]byte, error) {
	if do := h.do; do != nil {
		h.do = nil
		do()
	}
	return h.TPM.Send(in)
}

// What another process measures, at whatever moment, is found in the journal.
func TestMeasuredElsewhere(t *testing.T) {
	ctx := context.Background()
	t.Run("while seal suspends", func(t *testing.T) {
		b := newBench(t, nil)
		b.opts.Quiesce = &suspendHook{do: func() { b.elsewhere("agent") }}
		b.complete(b.load(), 1)
	})
	t.Run("while a list is read", func(t *testing.T) {
		b := newBench(t, nil)
		b.measure(2)
		o := b.readOptions()
		o.TPM = &tpmHook{TPM: b.TPM(), do: func() { b.elsewhere("agent") }}
		list, err := handover.ReadList(ctx, o)
		if err != nil || !list.Proof.Proved || !slices.Equal(list.Own, []int{3}) {
			t.Errorf("list %+v, %v; want it proved with the agent's record", list, err)
		}
	})
	t.Run("unknown to a handover without a TPM", func(t *testing.T) {
		b := newBench(t, nil)
		b.opts.TPM = nil
		h := b.load()
		b.elsewhere("agent")
		b.execute(h)
		if r := b.arrive(); r.Verdict != handover.Complete {
			t.Errorf("verdict: %v", r)
		}
	})
	t.Run("journaled before seal and extended after", func(t *testing.T) {
		b := newBench(t, nil)
		h := b.load()
		var during error
		b.soft.OnExtend(func(uint32) { during = h.Seal(ctx) }, nil)
		b.elsewhere("agent")
		b.soft.OnExtend(nil, nil)
		if !errors.Is(during, events.ErrBusy) {
			t.Errorf("seal while another process measures: %v, want ErrBusy", during)
		}
		b.attestable()
		b.execute(h)
		if r := b.arrive(); r.Verdict != handover.Complete {
			t.Errorf("verdict: %v", r)
		}
	})
}

// A kernel that found its TPM too late lists records and extends none.
func TestPCRStandsStill(t *testing.T) {
	b := newBench(t, &handovertest.Options{NoTPM: true})
	b.opts.TPM = softtpm.New(nil)
	b.measure(5)
	r := b.arrive()
	if r.Verdict != handover.Lost || r.List.Count != 6 || !strings.Contains(r.List.Proof.Reason, "does not extend") {
		t.Errorf("verdict %v with %d records, want the whole list and the reason", r, r.List.Count)
	}
	h := b.load()
	if h.Status().Proof.Proved {
		t.Error("a PCR of zeros proves six records")
	}
	before, _ := b.List()
	b.execute(h)
	if got, _ := b.List(); !bytesHasPrefix(withoutEvents(t, got), before) {
		t.Error("the list was not carried")
	}
}

// setPCR gives PCR 10 a value.
func (b *bench) setPCR(v imalog.Values) {
	b.Helper()
	for alg, value := range v {
		if err := b.soft.Set(tpm2.TPMAlgID(alg), imalog.DefaultPCR, value); err != nil {
			b.Fatal(err)
		}
	}
}

// measureLate lists a record that tpm extends so many readings of the PCR afterwards.
func (b *bench) measureLate(tpm *commandHook, reads int) {
	b.Helper()
	before := b.values()
	b.measure(1)
	after := b.values()
	b.setPCR(before)
	tpm.do = func(cc tpm2.TPMCC) {
		if cc != tpm2.TPMCCPCRRead {
			return
		}
		if reads--; reads == 0 {
			b.setPCR(after)
		}
	}
}

// A machine that takes long over a look, or a TPM that takes long over an extend, is not
// a kernel that does not extend.
func TestPCRTakesLong(t *testing.T) {
	t.Run("a look", func(t *testing.T) {
		b := newBench(t, nil)
		b.measure(3)
		b.opts.TPM = &tpmHook{TPM: b.TPM(), do: func() { time.Sleep(1100 * time.Millisecond) }}
		if list := b.attestable(); list.Count != 4 {
			t.Errorf("%d records are proved, want 4", list.Count)
		}
	})
	for _, reads := range []int{1, 2, 20} {
		t.Run(fmt.Sprintf("an extend, for %d looks", reads), func(t *testing.T) {
			b := newBench(t, nil)
			late := &commandHook{TPM: b.TPM()}
			b.opts.TPM = late
			b.measure(3)
			b.measureLate(late, reads)
			if list := b.attestable(); list.Count != 5 {
				t.Errorf("%d records are proved, want 5", list.Count)
			}
			h := b.load()
			b.measureLate(late, reads)
			b.complete(h, 1)
		})
	}
}

func bytesHasPrefix(b, prefix []byte) bool { return strings.HasPrefix(string(b), string(prefix)) }

func TestStateDirGone(t *testing.T) {
	b := newBench(t, nil)
	h := b.load()
	if err := os.RemoveAll(b.opts.StateDir); err != nil {
		t.Fatal(err)
	}
	err := h.Seal(context.Background())
	if !errors.Is(err, handover.ErrClosed) {
		t.Errorf("seal: %v, want ErrClosed", err)
	}
	wantLoaded(t, err, true)
	if err := h.Unload(); err != nil {
		t.Fatal(err)
	}
	if loaded, err := kexecseg.Loaded(b.FS()); err != nil || loaded {
		t.Errorf("after unload an image is loaded: %v, %v", loaded, err)
	}
}

// Whoever fails says what is loaded, so that nobody jumps into it unawares.
func TestErrorsSayWhatIsLoaded(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, nil)
	b.Faults.Load = kexecseg.ErrBusy
	_, err := handover.Load(ctx, &handovertest.Target{}, &b.opts)
	wantLoaded(t, err, false)
	b.Faults.Load = nil
	h := b.load()
	b.Faults.Load = kexecseg.ErrBusy
	_, err = handover.Load(ctx, &handovertest.Target{}, &b.opts)
	wantLoaded(t, err, true) // the first one
	b.Faults.Load = nil

	b.Faults.Unload = kexecseg.ErrBusy
	wantLoaded(t, h.Unload(), true)
	b.Faults.Unload = nil
	if err := h.Unload(); err != nil { // again
		t.Error(err)
	}

	b.load().Close()
	if err := b.Extend(10, []byte("stranger")); err != nil {
		t.Fatal(err)
	}
	_, err = handover.Resume(ctx, &handovertest.Target{}, &b.opts)
	if !errors.Is(err, handover.ErrNotProved) {
		t.Errorf("resume: %v, want ErrNotProved", err)
	}
	wantLoaded(t, err, true)
	if err := handover.Unload(&b.opts); err != nil {
		t.Fatal(err)
	}
	if loaded, _ := kexecseg.Loaded(b.FS()); loaded {
		t.Error("an image is loaded after Unload")
	}
}

func TestLetGoWhenReplaced(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, nil)
	q := &suspendHook{}
	b.opts.Quiesce = q
	h := b.load()
	if err := h.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	b.load()
	if err := h.Execute(ctx); !errors.Is(err, handover.ErrClosed) || q.resumed != 1 {
		t.Errorf("error %v, resumed %d times; want ErrClosed and 1", err, q.resumed)
	}
}

// Room is asked for before the events are measured, and never after.
func TestNoSealFailsBehindTheEvents(t *testing.T) {
	ctx := context.Background()
	for pad := 0; pad < 4096; pad += 150 {
		b := newBench(t, nil)
		b.opts.Persist = true
		b.load().Close()
		for range 20 {
			b.files++
			if err := b.MeasureFile(fmt.Sprintf("/f-%d-%0*d", b.files, 20+pad/20, 0), nil); err != nil {
				t.Fatal(err)
			}
		}
		h, err := handover.Resume(ctx, nil, &b.opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Seal(ctx); err != nil && len(b.attestable().Own) > 0 {
			t.Fatalf("pad %d: seal failed after the events were measured: %v", pad, err)
		}
		h.Close()
	}
}

func TestExtraThatNoMachineHas(t *testing.T) {
	b := newBench(t, nil)
	b.opts.Extra = 1<<64 - 12000
	if _, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts); err == nil || b.Loads() != 0 {
		t.Errorf("error %v after %d loads", err, b.Loads())
	}
}

// A list that was broken before is proved from Load on, in order and in the
// kernel's way of extending each bank.
func TestBrokenIsProvedFromLoadOn(t *testing.T) {
	all := []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}
	for _, padded := range [][]uint16{nil, all[2:], all[1:]} {
		b := newBench(t, &handovertest.Options{Banks: all, Padded: padded})
		b.opts.EventsAtLoad = true
		b.measure(3)
		if err := b.Extend(10, []byte("stranger")); err != nil {
			t.Fatal(err)
		}
		at := b.values()
		h := b.load()
		b.measure(2)
		if err := h.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
		now := b.values()
		list, err := handover.ReadList(context.Background(), b.readOptions())
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		r := imalog.NewReplayer(&imalog.ReplayOptions{Banks: all, Start: at, Padded: padded})
		for rec, err := range list.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if names = append(names, rec.Name()); len(names) > 4 {
				if err := r.Add(&rec); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := []string{"boot_aggregate", "/usr/bin/tool-1", "/usr/bin/tool-2", "/usr/bin/tool-3",
			"kexec_load", "/usr/bin/tool-4", "/usr/bin/tool-5", "kexec_execute"}
		if !slices.Equal(names, want) {
			t.Errorf("padded %v: list %q, want %q", padded, names, want)
		}
		// The first event comes before any record that could tell the kernel's mode:
		// the banks of the standard kernels are right all the same.
		for alg, v := range now {
			if len(padded) == 0 && !r.Match(imalog.Values{alg: v}) {
				t.Errorf("bank %s does not replay from Load on", imalog.AlgName(alg))
			}
		}
	}
}

// Banks whose hash is not known hinder nobody.
func TestUnknownBank(t *testing.T) {
	sm3 := softtpm.Bank{Alg: tpm2.TPMAlgID(imalog.AlgSM3_256), New: func() hash.Hash { return sha256.New() }}
	padded := []uint16{imalog.AlgSM3_256}

	b := newBench(t, &handovertest.Options{TPM: softtpm.New(&softtpm.Options{Banks: []softtpm.Bank{softtpm.SHA256(), sm3}}), Padded: padded})
	b.measure(2)
	b.complete(b.load(), 0)

	b = newBench(t, &handovertest.Options{TPM: softtpm.New(&softtpm.Options{Banks: []softtpm.Bank{sm3}}), Padded: padded})
	b.measure(2)
	b.execute(b.load())
	if r := b.arrive(); r.Verdict != handover.Unproved || r.List.Count != 4 {
		t.Errorf("verdict %v with %d records, want unproved with 4", r, r.List.Count)
	}
}

func TestTwoSealers(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, nil)
	b.opts.Persist = true
	first := b.load()
	second, err := handover.Resume(ctx, &handovertest.Target{}, &b.opts)
	if err != nil {
		t.Fatal(err)
	}
	b.measure(100)
	if err := second.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := first.Seal(ctx); !errors.Is(err, handover.ErrBusy) {
		t.Errorf("two seal at once: %v, want ErrBusy", err)
	}
	second.Close()
	if err := first.Seal(ctx); err != nil {
		t.Errorf("seal after the other closed: %v", err)
	}
	loads := 0
	for rec := range b.attestable().Records() {
		if rec.Name() == events.KexecLoad {
			loads++
		}
	}
	if loads != 1 {
		t.Errorf("%d kexec_load of one load", loads)
	}
}

// Records that were deleted after they were read are handed over all the same.
func TestDeletedBetween(t *testing.T) {
	b := newBench(t, nil)
	b.measure(5)
	h := b.load()
	whole, _ := b.List()
	if err := b.DeleteOldest(3); err != nil {
		t.Fatal(err)
	}
	b.measure(2)
	b.execute(h)
	r := b.arrive()
	if r.Verdict != handover.Complete || !bytesHasPrefix(r.List.Binary, whole) {
		t.Errorf("verdict %v, want the whole list, complete", r)
	}

	// One that lacks its head already is carried, and known for what it is.
	if err := b.DeleteOldest(2); err != nil {
		t.Fatal(err)
	}
	h = b.load()
	if p := h.Status().Proof; p.Proved || !strings.Contains(p.Reason, "deleted") {
		t.Errorf("proof %v, want the deletion as the reason", p)
	}
	b.execute(h)
}

// Records that were all read may all be deleted.
func TestDeletedWhole(t *testing.T) {
	b := newBench(t, nil)
	b.measure(5)
	h := b.load()
	whole, n := b.List()
	b.measure(2)
	if err := b.DeleteOldest(n); err != nil {
		t.Fatal(err)
	}
	b.execute(h)
	if r := b.arrive(); r.Verdict != handover.Complete || !bytesHasPrefix(r.List.Binary, whole) {
		t.Errorf("verdict %v, want the whole list, complete", r)
	}
}

// One that was deleted before it was read is gone, and nothing is handed over as if
// it were not.
func TestDeletedUnread(t *testing.T) {
	b := newBench(t, nil)
	b.measure(5)
	h := b.load()
	_, n := b.List()
	b.measure(2)
	if err := b.DeleteOldest(n + 1); err != nil {
		t.Fatal(err)
	}
	if err := h.Execute(context.Background()); !errors.Is(err, handover.ErrNotProved) {
		t.Fatalf("%v, want ErrNotProved", err)
	}
	if boots := b.Boots(); boots != 0 {
		t.Errorf("%d kexecs all the same", boots)
	}
}

type limited struct {
	*handovertest.Machine
	left string
}

func (l limited) FS() fs.FS { return limitedFS{l.Machine.FS(), l.left} }

type limitedFS struct {
	fs.FS
	left string
}

func (l limitedFS) ReadFile(name string) ([]byte, error) {
	if name == "proc/sys/kernel/kexec_load_limit_reboot" {
		return []byte(l.left + "\n"), nil
	}
	return fs.ReadFile(l.FS, name)
}

// A handover that the kernel would stop half way is not begun.
func TestLoadLimit(t *testing.T) {
	for left, ok := range map[string]bool{"-1": true, "0": false, "3": false, "4": true} {
		b := newBench(t, nil)
		b.opts.System = limited{b.Machine, left}
		h, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts)
		if ok != (err == nil) || !ok && (!errors.Is(err, kexecseg.ErrLoadLimit) || b.Loads() != 0) {
			t.Errorf("%s left: %v after %d loads", left, err, b.Loads())
		}
		if h != nil {
			h.Close()
		}
	}
}

// A format that ima_template_fmt= can make and no kernel restores.
func TestRefusedByTheNextKernel(t *testing.T) {
	b := newBench(t, nil)
	b.measure(2)
	const format = "d-ng|n-ng|sig|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"
	rec := imalog.Record{PCR: 10, Template: format}
	for i := range strings.Count(format, "|") + 1 {
		field := ""
		switch i {
		case 0:
			field = "sha256:\x00" + strings.Repeat("\xab", 32)
		case 1:
			field = "/long\x00"
		}
		rec.Data = binary.LittleEndian.AppendUint32(rec.Data, uint32(len(field)))
		rec.Data = append(rec.Data, field...)
	}
	rec.Digest, _ = rec.AppendDigest(nil, imalog.AlgSHA1)
	if err := b.MeasureRecord(rec); err != nil {
		t.Fatal(err)
	}
	b.measure(1)

	b.opts.Strict = true
	_, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts)
	if !errors.Is(err, handover.ErrNotProved) || !errors.Is(err, imalog.ErrTooLong) || b.Loads() != 0 {
		t.Fatalf("strict: %v, %d loads", err, b.Loads())
	}
	b.opts.Strict = false
	h := b.load()
	s := h.Status()
	if !s.Proof.Proved || s.Refused != 2 || !strings.HasPrefix(s.RefusedReason, "record 3: ") {
		t.Errorf("%+v, want two records refused from record 3 on", s)
	}
	b.execute(h)
	if r := b.arrive(); r.Verdict == handover.Complete || r.List.Count != 4 {
		t.Errorf("%v: %d records; want the 3 before it and a boot_aggregate", r.Verdict, r.List.Count)
	}
}

type crashTarget struct{ handovertest.Target }

func (c *crashTarget) Plan(ctx context.Context, req *kexecseg.Request) (*kexecseg.Image, error) {
	img, err := c.Target.Plan(ctx, req)
	if err == nil {
		img.Flags |= kexecseg.FlagOnCrash
	}
	return img, err
}

func TestCrashImage(t *testing.T) {
	b := newBench(t, nil)
	_, err := handover.Load(context.Background(), &crashTarget{}, &b.opts)
	if !errors.Is(err, kexecseg.ErrCrashImage) || b.Loads() != 0 {
		t.Errorf("error %v after %d loads, want ErrCrashImage", err, b.Loads())
	}
}

func TestUnsafeStateDir(t *testing.T) {
	b := newBench(t, nil)
	if err := os.Mkdir(b.opts.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := handover.Load(context.Background(), &handovertest.Target{}, &b.opts); !errors.Is(err, events.ErrUnsafe) {
		t.Errorf("a state directory that others can read: %v, want ErrUnsafe", err)
	}
}

// No kernel restores template "ima" as it lists it; the same fields with lengths
// it does.
func TestTemplateIMA(t *testing.T) {
	b := newBench(t, nil)
	for i := range 20 {
		name := fmt.Sprintf("/etc/conf-%d", i)
		data := append(make([]byte, 20), byte(len(name)), 0, 0, 0)
		rec := imalog.Record{PCR: 10, Template: "ima", Data: append(data, name...)}
		var err error
		if rec.Digest, err = rec.AppendDigest(nil, imalog.AlgSHA1); err != nil {
			t.Fatal(err)
		}
		if err := b.MeasureRecord(rec); err != nil {
			t.Fatal(err)
		}
	}
	b.complete(b.load(), 0)
	b.measure(200)
	b.opts.Truncate = true
	h := b.load()
	b.measure(200)
	b.execute(h)
	if r := b.arrive(); r.Verdict != handover.Truncated || r.Missing != h.Status().Cut {
		t.Errorf("verdict %v, %d cut", r, h.Status().Cut)
	}
}

// Where there is no memory for two images, the one that lacks records goes first.
func TestNarrowMachine(t *testing.T) {
	ctx := context.Background()
	narrow := func(change func(*bench)) (*bench, *handover.Handover) {
		b := newBench(t, nil)
		if change != nil {
			change(b)
		}
		b.Faults.Narrow = true
		h := b.load()
		b.measure(5)
		return b, h
	}
	for name, change := range map[string]func(*bench){
		"with a TPM":      nil,
		"without":         func(b *bench) { b.opts.TPM = nil },
		"a limit of many": func(b *bench) { b.opts.System = limitedLoads{b.Machine, "1000"} },
	} {
		b, h := narrow(change)
		if err := h.Seal(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		loads := b.Loads()
		b.execute(h) // seals once more: nothing is new, and the image stays
		if b.Loads() != loads {
			t.Errorf("%s: %d loads, and %d before", name, b.Loads(), loads)
		}
		if r := b.arrive(); r.Verdict != handover.Complete {
			t.Errorf("%s: %v", name, r)
		}
	}

	// A load that fails then leaves none, and the machine attestable.
	var e *handover.OpError
	b, h := narrow(nil)
	b.Faults.Load = &kexecseg.RefusedError{Op: "kexec_load", Reason: kexecseg.ErrNoMemory}
	err := h.Seal(ctx)
	if !errors.Is(err, kexecseg.ErrNoMemory) || !errors.As(err, &e) || e.Loaded || !strings.Contains(err.Error(), "unloaded already") {
		t.Errorf("no memory even for one: %v", err)
	}
	if own := b.attestable().Own; len(own) != 0 {
		t.Errorf("%d events were measured", len(own))
	}
	b.Faults.Load = nil
	b.execute(h)
	if r := b.arrive(); r.Verdict != handover.Complete {
		t.Errorf("%v", r)
	}

	// An image that the kernel does not let go of stays.
	b, h = narrow(nil)
	b.Faults.Unload = errors.New("told")
	if err := h.Seal(ctx); !errors.Is(err, kexecseg.ErrNoMemory) || !errors.Is(err, b.Faults.Unload) || !errors.As(err, &e) || !e.Loaded {
		t.Errorf("no unload: %v", err)
	}

	// Loads that are needed for more are not spent.
	_, h = narrow(func(b *bench) { b.opts.System = limitedLoads{b.Machine, "4"} })
	if err := h.Seal(ctx); !errors.Is(err, kexecseg.ErrNoMemory) || !errors.As(err, &e) || !e.Loaded {
		t.Errorf("with a limit: %v", err)
	}
}

// overlay is a machine of which one file is another.
type overlay struct {
	fs.FS
	name string
	file *fstest.MapFile
}

func (o overlay) Open(name string) (fs.File, error) {
	if name == o.name {
		return fstest.MapFS{name: o.file}.Open(name)
	}
	return o.FS.Open(name)
}

// limitedLoads is a machine on which so many loads and unloads are left.
type limitedLoads struct {
	*handovertest.Machine
	left string
}

func (l limitedLoads) FS() fs.FS {
	return overlay{l.Machine.FS(), "proc/sys/kernel/kexec_load_limit_reboot", &fstest.MapFile{Data: []byte(l.left + "\n")}}
}
