// Softreboot plays the same afternoon twice on one machine: a kernel with a long
// measurement list is asked to kexec, some files are measured before it does, and
// a verifier looks at the next kernel's list and at PCR 10.
//
// The TPM is the reference simulator, the list comes from a real kernel, and the
// machine is handovertest's, so it needs no root, no virtual machine and no TPM.
// It ends with status 0 when plain kexec lost records and imakexec did not.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm-tools/simulator"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
)

// captured is binary_runtime_measurements of a Linux 6.12 booted with
// ima_policy=tcb|critical_data ima_template=ima-sig.
//
//go:embed testdata/binary_runtime_measurements
var captured []byte

// late is what is measured between the loading of the next kernel and the jump.
var late = []string{"/usr/bin/systemctl", "/usr/lib/systemd/systemd-shutdown", "/etc/fstab"}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "softreboot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	if err := afternoon(ctx, w, "Plain kexec: the list is copied when the next kernel is loaded", plain); err != nil {
		return fmt.Errorf("plain kexec: %w", err)
	}
	fmt.Fprintln(w)
	if err := afternoon(ctx, w, "imakexec: the buffer is allocated at load and filled at execute", soft); err != nil {
		return fmt.Errorf("imakexec: %w", err)
	}
	return nil
}

// afternoon gives one half of the story a machine and a TPM of its own.
func afternoon(ctx context.Context, w io.Writer, title string, half func(context.Context, io.Writer, *handovertest.Machine) error) error {
	sim, err := simulator.Get()
	if err != nil {
		return err
	}
	defer sim.Close()
	m, err := handovertest.New(&handovertest.Options{
		TPM:     transport.FromReadWriter(sim),
		Records: imalog.Records(captured, nil),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w, title)
	return half(ctx, w, m)
}

// plain is what kernels before 6.16 do: the snapshot is taken at load.
func plain(ctx context.Context, w io.Writer, m *handovertest.Machine) error {
	list, count := m.List()
	memory, err := kexecseg.ReadMemoryMap(m.FS())
	if err != nil {
		return err
	}
	img, err := (&handovertest.Target{}).Plan(ctx, &kexecseg.Request{Memory: memory, IMASize: uint64(len(list) + imalog.HeaderSize), Root: m.FS()})
	if err != nil {
		return err
	}
	buffer, err := img.Map(img.IMA)
	if err != nil {
		return err
	}
	if _, err := imalog.Dump(buffer.Bytes(), imalog.Records(list, nil)); err != nil {
		return err
	}
	if err := buffer.Unmap(); err != nil {
		return err
	}
	if err := m.Load(img); err != nil {
		return err
	}
	fmt.Fprintf(w, "  load      %d records are copied\n", count)
	atLoad, err := (&events.Measurer{TPM: m.TPM(), PCR: 10}).Values(ctx)
	if err != nil {
		return err
	}
	if err := measureLate(w, m); err != nil {
		return err
	}
	if err := m.Kexec(); err != nil {
		return err
	}
	report, err := arrive(ctx, w, m)
	if err != nil {
		return err
	}

	// A verifier that kept the PCR's values from before can tell how far the list
	// is whole.
	before, err := imalog.Verify(ctx, report.List.Records(), atLoad, nil)
	if err != nil {
		return err
	}
	for _, b := range before.Banks {
		if b.Prefix != count {
			return fmt.Errorf("bank %s: list and PCR part after %d records, not after %d", imalog.AlgName(b.Alg), b.Prefix, count)
		}
	}
	fmt.Fprintf(w, "  parted    in each bank after record %d: %s was extended next and is not in the list\n", count-1, late[0])
	if report.Verdict != handover.Lost || report.Since != count {
		return fmt.Errorf("verdict %s since record %d, want lost since record %d", report.Verdict, report.Since, count)
	}
	return nil
}

// soft is the same with imakexec.
func soft(ctx context.Context, w io.Writer, m *handovertest.Machine) error {
	dir, err := os.MkdirTemp("", "softreboot")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	_, count := m.List()
	h, err := handover.Load(ctx, &handovertest.Target{}, &handover.Options{TPM: m.TPM(), System: m, StateDir: dir + "/state"})
	if err != nil {
		return err
	}
	defer h.Close()
	fmt.Fprintf(w, "  load      a buffer of %d bytes is allocated for %d records\n", h.Status().Buffer, h.Status().Records)
	if err := measureLate(w, m); err != nil {
		return err
	}
	if err := h.Execute(ctx); err != nil {
		return err
	}
	fmt.Fprintf(w, "  execute   kexec_load and kexec_execute are measured, %d records are handed over\n", h.Status().Records)
	report, err := arrive(ctx, w, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  events    kexec_load is record %d, kexec_execute record %d; %d records came between load and execute\n",
		report.KexecLoad, report.KexecExecute, report.Between)
	if report.Verdict != handover.Complete || report.Between != len(late) {
		return fmt.Errorf("verdict %s with %d records between, want complete with %d", report.Verdict, report.Between, len(late))
	}
	if got, _ := m.List(); !bytes.HasPrefix(got, captured) || report.KexecExecute != count+len(late)+1 {
		return fmt.Errorf("the list did not arrive as it was")
	}
	return nil
}

func measureLate(w io.Writer, m *handovertest.Machine) error {
	for _, name := range late {
		if err := m.MeasureFile(name, []byte(name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "  meantime  %d files are measured\n", len(late))
	return nil
}

// arrive prints what a verifier sees in the next kernel.
func arrive(ctx context.Context, w io.Writer, m *handovertest.Machine) (*handover.Report, error) {
	report, err := handover.Arrive(ctx, &handover.ReadOptions{TPM: m.TPM(), System: m, StateDir: "/nonexistent"})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "  kexec     the next kernel has %d records\n", report.List.Count)
	values, err := (&events.Measurer{TPM: m.TPM(), PCR: 10}).Values(ctx)
	if err != nil {
		return nil, err
	}
	replay, err := imalog.Verify(ctx, report.List.Records(), values, &imalog.ReplayOptions{Banks: []uint16{
		imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}})
	if err != nil {
		return nil, err
	}
	for _, b := range replay.Banks {
		answer := "replays"
		if !b.Match {
			answer = "DOES NOT REPLAY"
		}
		fmt.Fprintf(w, "  %-8s  PCR 10 %x…  list %x…  %s\n", imalog.AlgName(b.Alg), b.Want[:10], b.Got[:10], answer)
	}
	fmt.Fprintf(w, "  verdict   %s\n", report)
	return report, nil
}
