//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imakexec/imakexec/internal/vmtest"
)

func TestMain(m *testing.M) {
	vmtest.Main(m, vmtest.Scenario{Name: "live", Boots: []func(*vmtest.Guest){live}})
}

// The list and the TPM of a running kernel.
func TestLiveKernels(t *testing.T) {
	for _, kernel := range vmtest.KernelNames() {
		t.Run(kernel, func(t *testing.T) {
			vmtest.Run(t, vmtest.Config{Scenario: "live", Kernels: []string{kernel}})
		})
	}
}

// live is played in the machine, by root.
func live(g *vmtest.Guest) {
	const lists = "/" + ima + "/"
	g.MeasureFiles(5, "early")
	imalist := func(ctx context.Context, args string) (out, errs *screen, status int) {
		out, errs = &screen{}, &screen{}
		w := &world{out: out, err: errs, in: strings.NewReader(""), root: os.DirFS("/"), openTPM: openTPM}
		return out, errs, w.run(ctx, strings.Fields(args))
	}
	check := func(args string, want int) string {
		out, errs, status := imalist(context.Background(), args)
		if status != want || errs.String() != "" {
			g.Errorf("imalist %s: status %d, want %d\n%s%s", args, status, want, errs, out)
		}
		return out.String()
	}
	same := func(args, file string) {
		want := g.ReadFile(lists + file)
		if got := check(args, exitGood); got != string(want) {
			g.Errorf("imalist %s: not %s", args, file)
		}
	}
	same("-o ascii", "ascii_runtime_measurements")
	same("-o binary", "binary_runtime_measurements")
	same("-o ascii "+lists+"binary_runtime_measurements", "ascii_runtime_measurements")
	same("-o binary "+lists+"ascii_runtime_measurements", "binary_runtime_measurements")
	if _, err := os.Stat(lists + "binary_runtime_measurements_sha256"); err == nil {
		same("-o ascii -digest sha256", "ascii_runtime_measurements_sha256")
	} else if !errors.Is(err, os.ErrNotExist) {
		g.Check(err, "per-bank list")
	}
	for _, args := range []string{"-verify tpm", "-verify /dev/tpmrm0", "-verify /sys/class/tpm/tpm0",
		"-verify /sys/class/tpm/tpm0/pcr-sha256/10", "-verify tpm -audit", "-verify tpm " + lists + "ascii_runtime_measurements"} {
		if out := check(args, exitGood); !strings.Contains(out, "\nproved: ") {
			g.Errorf("imalist %s:\n%s", args, out)
		}
	}

	// Follow the list while files are measured and, where the kernel lets root,
	// records are deleted.
	ctx, cancel := context.WithCancel(context.Background())
	out, errs := &screen{}, &screen{}
	done := make(chan int)
	go func() {
		w := &world{out: out, err: errs, root: os.DirFS("/")}
		done <- w.run(ctx, []string{"-follow", "-every", "10ms", "-o", "ascii"})
	}()
	text := g.ReadFile(lists + "ascii_runtime_measurements")
	show := func(measured []string) {
		for _, name := range measured {
			for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), " "+name+" \n"); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					g.Fatalf("%s is not shown:\n%s%s", name, errs, out)
				}
			}
		}
	}
	show(g.MeasureFiles(5, "late"))
	all := g.ReadFile(lists + "ascii_runtime_measurements")
	deleted := deleteOldest(g, lists+"binary_runtime_measurements")
	g.Logf("records can be deleted: %v", deleted)
	if deleted {
		left := g.ReadFile(lists + "ascii_runtime_measurements")
		if !bytes.HasSuffix(all, left) || len(left) == len(all) {
			g.Errorf("the kernel has deleted nothing")
		}
		if out := check("-verify tpm", exitBad); !strings.Contains(out, "found: the list begins within a boot") {
			g.Errorf("what is left of the list:\n%s", out)
		}
	}
	show(g.MeasureFiles(5, "later"))
	cancel()
	status := <-done
	lines := slices.Collect(strings.Lines(out.String()))
	if n := bytes.Count(text, []byte("\n")) + 10; status != exitGood || errs.String() != "" || len(lines) != n {
		g.Errorf("followed: status %d, %d records of %d\n%s%s", status, len(lines), n, errs, out)
	}
}

// deleteOldest deletes the three oldest records of the kernel's list, which
// kernels before 7.2 do not know of.
func deleteOldest(g *vmtest.Guest, list string) bool {
	for {
		f, err := os.OpenFile(list, os.O_WRONLY, 0)
		if errors.Is(err, syscall.EBUSY) {
			continue // it is being followed
		}
		g.Check(err, "open for writing")
		_, err = f.WriteString("3\n")
		g.Check(f.Close(), "close")
		if errors.Is(err, syscall.EINVAL) {
			return false
		}
		g.Check(err, "delete")
		return true
	}
}
