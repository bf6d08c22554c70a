//go:build linux

package vmtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/internal/testenv"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

// armKernelEnv is the path of an arm64 Image, plain or gzip, that has
// HAVE_IMA_KEXEC and a built-in TPM driver; Debian's have neither, so there is none
// to download and these tests are left out without it.
const armKernelEnv = "IMAKEXEC_ARM64_KERNEL"

// armKernel returns the kernel, uncompressed: QEMU starts it so.
func armKernel(t *testing.T) string {
	t.Helper()
	path := os.Getenv(armKernelEnv)
	if path == "" {
		t.Skipf("%s names no arm64 kernel", armKernelEnv)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasPrefix(b, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(t.TempDir(), "Image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// armInit is build for arm64.
func armInit(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "init")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the guest's init: %v\n%s", err, out)
	}
	return path
}

// armChain hands over as often as there are kernels.
var armChain = Scenario{Name: "arm64", Boots: []func(*Guest){
	func(g *Guest) {
		if g.Boot > 0 {
			arriveAs(g, handover.Complete)
		}
		g.MeasureFiles(5, fmt.Sprintf("boot%d", g.Boot))
		if !g.Last() {
			execute(g, load(g, nil))
		}
		g.Capture("end")
	},
}}

// armRefused asks for a handover that the machine cannot do.
var armRefused = Scenario{Name: "arm64-refused", Boots: []func(*Guest){
	func(g *Guest) {
		next := &linuximage.Linux{
			Kernel:  bytes.NewReader(g.ReadFile("/data/kernel")),
			Cmdline: g.NextCmdline(),
		}
		before := g.List()
		_, err := handover.Load(context.Background(), next, &handover.Options{TPM: g.TPM()})
		g.Logf("%v", err)
		if want := map[string]error{"ACPI": linuximage.ErrACPI, "ITS": linuximage.ErrITS}[g.Arg("why")]; !errors.Is(err, want) {
			g.Errorf("refused with %v, want %v", err, want)
		}
		if !bytes.Equal(g.List(), before) {
			g.Errorf("the list grew")
		}
		g.Capture("end")
	},
}}

func TestARM64(t *testing.T) {
	testenv.NeedFull(t, "boots virtual machines")
	kernel := armKernel(t)
	for name, c := range map[string]Config{
		"1 GiB": {},
		"6 GiB": {Memory: 6144},
		// The firmware's device tree, and with it the list, only where there is no ACPI.
		"UEFI": {QEMU: []string{"-machine", "acpi=off"}},
		// LPI tables stay in memory that UEFI tells the next kernel of.
		"UEFI and ITS": {QEMU: []string{"-machine", "acpi=off,gic-version=3"}},
		// Without UEFI there must be none.
		"ITS and no LPIs": {QEMU: []string{"-machine", "gic-version=3"}, Cmdline: "irqchip.gicv3_nolpi=1"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "UEFI") {
				c.QEMU = append(c.QEMU, "-bios", armFirmware(t))
			}
			c.Scenario, c.Kernels, c.Arch, c.Init = "arm64", []string{kernel, kernel, kernel}, "arm64", armInit(t)
			Judge(t, Run(t, c).Capture("end"))
		})
	}
}

// An arm64 machine that cannot hand a list over says why, and nothing is changed.
func TestARM64Refused(t *testing.T) {
	testenv.NeedFull(t, "boots virtual machines")
	kernel := armKernel(t)
	next, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range []string{"ACPI", "ITS"} {
		t.Run(why, func(t *testing.T) {
			qemu := []string{"-machine", "gic-version=3"}
			if why == "ACPI" {
				qemu = []string{"-bios", armFirmware(t)}
			}
			res := Run(t, Config{Scenario: "arm64-refused", Kernels: []string{kernel}, Arch: "arm64", Init: armInit(t),
				Files: map[string][]byte{"kernel": next}, QEMU: qemu, Args: map[string]string{"why": why}})
			Judge(t, res.Capture("end"))
		})
	}
}

func armFirmware(t *testing.T) string {
	const firmware = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
	if _, err := os.Stat(firmware); err != nil {
		testenv.Skip(t, "needs firmware for arm64, Debian's package qemu-efi-aarch64")
	}
	return firmware
}
