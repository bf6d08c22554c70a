//go:build linux

package vmtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/internal/testenv"
)

// kexecsegScenarios are those of the files kexecseg_*_test.go.
func kexecsegScenarios() []Scenario {
	return []Scenario{firmware, throughPurgatory, flipped, sse, armChain, armRefused, room, narrow, fileLoad}
}

// ovmf are QEMU's arguments for a machine with EFI; its variables are lost with it.
func ovmf(t *testing.T) []string {
	const code, vars = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	if _, err := os.Stat(code); err != nil {
		testenv.Skip(t, "needs OVMF, Debian's package ovmf")
	}
	return []string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + code,
		"-drive", "if=pflash,format=raw,unit=1,snapshot=on,file=" + vars,
	}
}

// firmware hands over as often as there are kernels, and sends what each finds of
// EFI.
var firmware = Scenario{Name: "firmware", Boots: []func(*Guest){
	func(g *Guest) {
		if g.Boot > 0 {
			arriveAs(g, handover.Complete)
		}
		g.MeasureFiles(3, fmt.Sprintf("boot%d", g.Boot))
		g.Put(fmt.Sprintf("log%d", g.Boot), g.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements"))
		g.Put(fmt.Sprintf("efi%d", g.Boot), []byte(describeEFI(g)))
		if g.Arg("variables") == "yes" {
			useVariables(g)
		}
		if !g.Last() {
			execute(g, load(g, nil))
		}
		g.Capture("end")
	},
}}

// describeEFI lists what the kernel shows of EFI: its tables, and where runtime
// services live. The file runtime is left out: it shows the firmware's own pointer,
// which the first kernel has made a virtual address.
func describeEFI(g *Guest) string {
	shown := make(map[string]string)
	err := fs.WalkDir(os.DirFS("/sys/firmware/efi"), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(path, "efivars/") && path != "runtime" {
			shown[path] = strings.TrimSpace(string(g.ReadFile("/sys/firmware/efi/" + path)))
		}
		return err
	})
	g.Check(err, "walk EFI")
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(shown)) {
		fmt.Fprintf(&b, "%s: %s\n", path, shown[path])
	}
	return b.String()
}

// useVariables has the firmware's runtime services work: it reads what each boot before
// has written into a variable of its own, and writes one.
func useVariables(g *Guest) {
	const efivars, attributes = "/sys/firmware/efi/efivars/", "\x07\x00\x00\x00" // kept, and seen at boot and at run time
	file := func(boot int) string {
		return fmt.Sprintf("%sImakexec%d-8c4d4f8a-3c3c-4f0e-9a52-7d1b6f2f9f01", efivars, boot)
	}
	g.LoadModule(fmt.Sprintf("/data/efivarfs%d", g.Boot))
	g.Check(unix.Mount("efivarfs", efivars, "efivarfs", 0, ""), "mount efivarfs")
	if variables, _ := filepath.Glob(efivars + "Boot*"); len(variables) == 0 {
		g.Errorf("the firmware's own variables are not there")
	}
	for boot := range g.Boot {
		if got, want := string(g.ReadFile(file(boot))), attributes+file(boot); got != want {
			g.Errorf("the variable of boot %d holds %q, want %q", boot, got, want)
		}
	}
	g.Check(os.WriteFile(file(g.Boot), []byte(attributes+file(g.Boot)), 0o644), "write a variable")
	g.Check(unix.Unmount(efivars, 0), "unmount efivarfs")
}

// A handover keeps what a kernel has of EFI: the tables, runtime services at their
// addresses and at work, and the firmware's log, which the boot_aggregates are made of.
func TestEFI(t *testing.T) {
	for _, kernels := range []string{"6.12 7.x 6.1", "7.x 7.x 6.12"} {
		t.Run(kernels, func(t *testing.T) {
			testenv.NeedFull(t, "boots virtual machines")
			files := make(map[string][]byte)
			for boot, kernel := range strings.Fields(kernels) {
				module, err := EFIVarFS(t.Context(), kernel)
				if err != nil {
					t.Fatal(err)
				}
				if files[fmt.Sprintf("efivarfs%d", boot)], err = os.ReadFile(module); err != nil {
					t.Fatal(err)
				}
			}
			res := Run(t, Config{Scenario: "firmware", Kernels: strings.Fields(kernels), QEMU: ovmf(t),
				Files: files, Args: map[string]string{"variables": "yes"}})
			Judge(t, res.Capture("end"))
			log, efi := res.Files["log0"], res.Files["efi0"]
			if len(log) < 1000 || !bytes.Contains(efi, []byte("runtime-map/1/virt_addr: 0x")) {
				t.Errorf("a firmware log of %d bytes, and of EFI:\n%s", len(log), efi)
			}
			for boot := 1; boot < 3; boot++ {
				if got := res.Files[fmt.Sprintf("log%d", boot)]; !bytes.Equal(got, log) {
					t.Errorf("boot %d finds a firmware log of %d bytes, and the first had %d", boot, len(got), len(log))
				}
				if got := res.Files[fmt.Sprintf("efi%d", boot)]; !bytes.Equal(got, efi) {
					t.Errorf("boot %d finds of EFI:\n%s\nand the first found:\n%s", boot, got, efi)
				}
			}
		})
	}
}

// With efi=noruntime there are no runtime services to hand over, and the firmware's
// log still arrives.
func TestEFINoRuntime(t *testing.T) {
	res := Run(t, Config{Scenario: "firmware", Kernels: []string{"6.12", "7.x"}, QEMU: ovmf(t), Cmdline: "efi=noruntime"})
	Judge(t, res.Capture("end"))
	if log := res.Files["log0"]; len(log) < 1000 || !bytes.Equal(log, res.Files["log1"]) {
		t.Errorf("firmware logs of %d and %d bytes", len(log), len(res.Files["log1"]))
	}
	if efi := res.Files["efi0"]; bytes.Contains(efi, []byte("runtime-map/")) {
		t.Errorf("EFI has a runtime map:\n%s", efi)
	}
}
