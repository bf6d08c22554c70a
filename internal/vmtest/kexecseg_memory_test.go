//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

// room hands over to a kernel with a file of so many MiB in its initramfs, in the
// layout that the argument names.
var room = Scenario{Name: "room", Boots: []func(*Guest){
	func(g *Guest) {
		debug.SetGCPercent(5) // few copies of a kernel
		kernel, err := os.Open(g.KernelPath(g.Boot + 1))
		g.Check(err, "open kernel")
		l := &linuximage.Linux{Kernel: kernel, Initrd: bytes.NewReader(g.Initramfs()), Cmdline: g.NextCmdline()}
		debug.FreeOSMemory()
		l.Indirect = g.Arg("layout") == "indirect"
		if g.Arg("initrd") == "high" { // no room for it below
			l.Reserved = []kexecseg.Range{{Start: 160 << 20, Size: 4<<30 - 160<<20}}
		}
		if mib, _ := strconv.Atoi(g.Arg("big")); mib > 0 {
			var b bytes.Buffer
			w := newCPIOWriter(&b)
			w.file("big", 0o644, pattern(mib<<20))
			g.Check(w.Close(), "make archive")
			l.Initrd, err = linuximage.JoinInitrds(l.Initrd, bytes.NewReader(b.Bytes()))
			g.Check(err, "join")
		}
		h, err := handover.Load(context.Background(), l, &handover.Options{TPM: g.TPM()})
		g.Check(err, "load")
		g.MeasureFiles(3, "between")
		execute(g, h)
	},
	func(g *Guest) {
		arriveAs(g, handover.Complete)
		if mib, _ := strconv.Atoi(g.Arg("big")); mib > 0 && !bytes.Equal(g.ReadFile("/big"), pattern(mib<<20)) {
			g.Errorf("the large file arrived changed")
		}
		g.Capture("end")
	},
}}

// narrow is a machine that holds one image beside what runs, and not two.
var narrow = Scenario{Name: "narrow", Boots: []func(*Guest){
	func(g *Guest) {
		debug.SetGCPercent(5)
		kernel, err := os.Open(g.KernelPath(1))
		g.Check(err, "open kernel")
		l := &linuximage.Linux{Kernel: kernel, Initrd: bytes.NewReader(g.Initramfs()), Cmdline: g.NextCmdline()}
		img := plan(g, l, 1<<16)
		debug.FreeOSMemory()
		fill(g, img)
		g.Check(kexecseg.Load(img), "load")
		if err := kexecseg.Load(img); !errors.Is(err, kexecseg.ErrNoMemory) {
			g.Errorf("a second image beside the first: %v", err)
		}
		jump(g)
	},
	arrivesWhole,
}}

// An image is refused while the kernel would run out of memory for it, and the one
// that is loaded still is.
func TestNarrowMemory(t *testing.T) {
	res := Run(t, Config{Scenario: "narrow", Kernels: []string{"6.12", "6.12"}, Memory: 256})
	Judge(t, res.Capture("end"))
}

// pattern is bytes that no other page of them repeats.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i], b[i+1], b[i+2] = byte(i>>12), byte(i>>20), 1
	}
	return b
}

// 256 MiB hold one image beside what runs, so that the first goes before the second is
// loaded; 6 GiB lie on both sides of the hole below 4 GiB.
func TestMemorySizes(t *testing.T) {
	for _, mib := range []int{256, 1024, 6144} {
		t.Run(strconv.Itoa(mib)+" MiB", func(t *testing.T) {
			res := Run(t, Config{Scenario: "room", Kernels: []string{"6.12", "6.12"}, Memory: mib})
			c := res.Capture("end")
			Judge(t, c)
			carried(t, res, c, "sent0")
		})
	}
}

func TestLargeInitrd(t *testing.T) {
	res := Run(t, Config{Scenario: "room", Kernels: []string{"6.12", "6.12"}, Memory: 2048, Args: map[string]string{"big": "150"}})
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
}

// Where there is no room below 4 GiB the initrd goes above.
func TestHighInitrd(t *testing.T) {
	res := Run(t, Config{Scenario: "room", Kernels: []string{"6.12", "7.x"}, Memory: 6144, Args: map[string]string{"big": "150", "initrd": "high"}})
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
}

func TestIndirectLayout(t *testing.T) {
	res := Run(t, Config{Scenario: "room", Kernels: []string{"6.12", "7.x"}, Args: map[string]string{"layout": "indirect"}})
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
}
