package events_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/vmtest"
)

func TestMain(m *testing.M) { vmtest.Main(m, besideKernel) }

const eachDevice = 10 // records of user space through each of the TPM's devices

// besideKernel measures through both devices of a TPM while the kernel measures
// files, and then finds the records' places among the kernel's.
var besideKernel = vmtest.Scenario{Name: "beside the kernel", Boots: []func(*vmtest.Guest){func(g *vmtest.Guest) {
	ctx := context.Background()
	g.MeasureFiles(3, "first")
	kernel := list(g)
	sysfs, err := events.SysfsValues(os.DirFS("/"), 10)
	g.Check(err, "read the PCR in sysfs")
	if len(sysfs) != 4 {
		g.Errorf("sysfs has %d banks", len(sysfs))
	}
	first, err := imalog.Verify(ctx, sequence(kernel), sysfs, nil)
	g.Check(err, "replay")
	if !first.Matched() {
		g.Fatalf("the list does not replay before anything was done to it")
	}
	padded := first.End.Padded(imalog.AlgSHA512)
	g.Logf("%d records; SHA-512 padded: %v", len(kernel), padded)

	journal, err := events.OpenJournal("/run/state", nil)
	g.Check(err, "open the journal")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				g.MeasureFiles(1, fmt.Sprint("beside", i))
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for _, device := range []string{"/dev/tpmrm0", "/dev/tpm0"} {
		tpm, err := linuxtpm.Open(device)
		g.Check(err, "open the TPM")
		m := &events.Measurer{TPM: tpm, Journal: journal, Padded: first.End.Padded}
		for i := range eachDevice {
			e := events.Event{Label: "test", Name: fmt.Sprint(device, i), Data: []byte("measured by user space")}
			rec, err := e.Record(nil)
			g.Check(err, "build")
			if done, err := m.Measure(ctx, &rec, 0); err != nil || done.Outcome != events.Done {
				g.Fatalf("%s: %v, %v", device, done.Outcome, err)
			}
		}
		// Whoever attests just now finds the list that the PCR proves.
		want, err := m.Values(ctx)
		g.Check(err, "read the PCR")
		spliced(g, first.End, kernel, journal, want)
		for pcr := range uint32(24) {
			if pcr == imalog.DefaultPCR { // which the kernel is extending
				continue
			}
			fromTPM, err := events.TPMValues(ctx, tpm, pcr)
			g.Check(err, "read a PCR")
			fromKernel, err := events.SysfsValues(os.DirFS("/"), pcr)
			g.Check(err, "read a PCR in sysfs")
			if !fromTPM.Equal(fromKernel) {
				g.Errorf("PCR %d: the TPM has %x, sysfs %x", pcr, fromTPM, fromKernel)
			}
		}
		g.Check(tpm.Close(), "close the TPM")
	}
	close(stop)
	<-stopped

	want, err := events.SysfsValues(os.DirFS("/"), 10)
	g.Check(err, "read the PCR in sysfs")
	s, all := spliced(g, first.End, kernel, journal, want)
	late := 0
	for i, at := range s.At {
		if at < 0 {
			g.Errorf("entry %d is not in the PCR", i)
		}
	}
	for _, e := range journal.Entries() {
		if e.State != events.Extended {
			g.Errorf("entry %d is %v", e.Seq, e.State)
		}
		if !follows(&e) {
			late++
		}
	}
	g.Logf("%d records of user space among %d of the kernel, which was faster or followed at once with %d; %d steps",
		len(s.At), s.Kernel, late, s.Steps)
	whole := append(kernel, s.Merge(all, journal.Entries())...)
	g.Put("count", fmt.Append(nil, len(whole)))
	var raw []byte
	for _, rec := range whole {
		raw, err = rec.AppendBinary(raw)
		g.Check(err, "encode")
	}
	g.Put("whole", raw)
	g.Capture("end")
}}}

// list reads the kernel's list.
func list(g *vmtest.Guest) []imalog.Record {
	var out []imalog.Record
	for rec, err := range imalog.Records(g.List(), nil) {
		g.Check(err, "read the list")
		out = append(out, rec)
	}
	return out
}

func sequence(list []imalog.Record) func(func(imalog.Record, error) bool) {
	return func(yield func(imalog.Record, error) bool) {
		for _, rec := range list {
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// spliced finds the journal's entries among what the kernel measured since known,
// the state after which is start.
func spliced(g *vmtest.Guest, start *imalog.Replayer, known []imalog.Record, journal *events.Journal, want imalog.Values) (*events.Spliced, []imalog.Record) {
	all := list(g)[len(known):]
	s, err := events.Splice(context.Background(), start, all, journal.Entries(), want, nil)
	g.Check(err, "find the records' places")
	return s, all
}

// follows reports whether nothing came between reading the PCR, extending it and
// reading it again.
func follows(e *events.Entry) bool {
	r := imalog.NewReplayer(&imalog.ReplayOptions{Start: e.Before})
	return r.Add(&e.Record) == nil && r.Match(imalog.Values{imalog.AlgSHA256: e.After[imalog.AlgSHA256]})
}

func TestBesideKernel(t *testing.T) {
	for _, kernel := range vmtest.KernelNames() {
		t.Run(kernel, func(t *testing.T) {
			res := vmtest.Run(t, vmtest.Config{
				Scenario: "beside the kernel",
				Kernels:  []string{kernel},
				Banks:    []string{"sha1", "sha256", "sha384", "sha512"},
				CPUs:     2,
			})
			c := res.Capture("end")
			vmtest.JudgeLost(t, c) // the kernel's list alone
			c["binary_runtime_measurements"] = res.Files["whole"]
			c["runtime_measurements_count"] = res.Files["count"]
			vmtest.Judge(t, c, "sha1", "sha256", "sha384", "sha512")
		})
	}
}
