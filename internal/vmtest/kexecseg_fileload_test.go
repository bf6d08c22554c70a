//go:build linux

package vmtest

import (
	"bytes"
	"os"
	"testing"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/kexecseg"
)

// fileLoad loads by kexec_file_load(2): the kernel from bytes, the initrd from a file.
// It unloads that, loads again and jumps.
var fileLoad = Scenario{Name: "fileload", Boots: []func(*Guest){
	func(g *Guest) {
		const initrd = "/tmp/initrd"
		g.Check(os.WriteFile(initrd, g.Initramfs(), 0o600), "write initrd")
		f, err := os.Open(initrd)
		g.Check(err, "open initrd")
		files := &kexecseg.Files{
			Kernel:  bytes.NewReader(g.ReadFile(g.KernelPath(1))),
			Initrd:  f,
			Cmdline: g.NextCmdline("imakexec.loaded=files"),
		}
		loaded := func(want bool) {
			if got, err := kexecseg.Loaded(os.DirFS("/")); err != nil || got != want {
				g.Errorf("loaded: %v, %v, want %v", got, err, want)
			}
		}
		g.Check(kexecseg.LoadFiles(files), "load files")
		loaded(true)
		g.Check(kexecseg.UnloadFiles(), "unload files")
		loaded(false)
		g.Check(kexecseg.UnloadFiles(), "unload nothing")
		g.Check(kexecseg.LoadFiles(files), "load files again")
		loaded(true)
		g.Check(kexecseg.Reboot(), "reboot")
	},
	func(g *Guest) {
		if !bytes.Contains(g.ReadFile("/proc/cmdline"), []byte(" imakexec.loaded=files")) {
			g.Errorf("another command line: %s", g.ReadFile("/proc/cmdline"))
		}
		want := handover.Lost
		if g.Arg("sends") == "yes" {
			want = handover.Complete
		}
		arriveAs(g, want)
		g.Capture("end")
	},
}}

// kexec_file_load(2) loads and unloads. A stock kernel carries no list that way, one
// with CONFIG_IMA_KEXEC does.
func TestFileLoad(t *testing.T) {
	res := Run(t, Config{Scenario: "fileload", Kernels: []string{"6.12", "7.x"}})
	JudgeLost(t, res.Capture("end"))
	for _, k := range ExtraKernels() {
		t.Run(k, func(t *testing.T) {
			res := Run(t, Config{Scenario: "fileload", Kernels: []string{k, "7.x"}, Args: map[string]string{"sends": "yes"}})
			Judge(t, res.Capture("end"))
		})
	}
}
