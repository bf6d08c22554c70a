//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/testenv"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

// checked is target with a purgatory.
func checked(g *Guest) *linuximage.Linux {
	l := target(g)
	l.Purgatory = true
	return l
}

// throughPurgatory is a handover whose image is verified before the jump.
var throughPurgatory = Scenario{Name: "purgatory", Boots: []func(*Guest){
	func(g *Guest) {
		g.MeasureFiles(5, "before")
		h, err := handover.Load(context.Background(), checked(g), &handover.Options{TPM: g.TPM()})
		g.Check(err, "load")
		g.MeasureFiles(5, "between")
		execute(g, h)
	},
	func(g *Guest) {
		arriveAs(g, handover.Complete)
		g.MeasureFiles(5, "after")
		g.Capture("end")
	},
}}

func TestPurgatoryPairs(t *testing.T) {
	for _, from := range KernelNames() {
		for _, to := range KernelNames() {
			t.Run(from+" to "+to, func(t *testing.T) {
				res := Run(t, Config{Scenario: "purgatory", Kernels: []string{from, to}})
				c := res.Capture("end")
				Judge(t, c)
				carried(t, res, c, "sent0")
			})
		}
	}
}

// flipped changes one byte of the image after its digest was made, in the place
// that the argument names, and jumps.
var flipped = Scenario{Name: "flipped", Boots: []func(*Guest){
	func(g *Guest) {
		root := os.DirFS("/")
		memory, err := kexecseg.ReadMemoryMap(root)
		g.Check(err, "read memory map")
		l := checked(g)
		img, err := l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: 1 << 16, Root: root})
		g.Check(err, "plan")
		buffer, err := img.Map(img.IMA)
		g.Check(err, "map")
		_, err = imalog.Dump(buffer.Bytes(), imalog.Records(g.List(), nil))
		g.Check(err, "dump")
		g.Check(buffer.Unmap(), "unmap")

		at := img.IMA.End() - 1 // behind the list
		if g.Arg("byte") != "buffer" {
			at = placeOf(g, img, g.Arg("byte"))
		}
		m, err := img.Map(kexecseg.Range{Start: at, Size: 1})
		g.Check(err, "map")
		m.Bytes()[0] ^= 1
		g.Check(m.Unmap(), "unmap")
		g.Check(kexecseg.Load(img), "load")
		jump(g)
	},
	func(g *Guest) {
		arriveAs(g, handover.Complete)
		g.Capture("end")
	},
}}

// placeOf finds a byte to change: in the middle of the kernel or of the initrd, or
// the node before the buffer.
func placeOf(g *Guest, img *kexecseg.Image, what string) uint64 {
	kernel := g.ReadFile(g.KernelPath(1))
	for _, s := range img.Segments {
		middle := s.Phys.Start + uint64(len(s.Buf)/2)
		switch {
		case what == "kernel" && len(s.Buf) > 1<<20 && bytes.Contains(kernel, s.Buf[:1<<16]):
			return middle
		case what == "initrd" && bytes.HasPrefix(s.Buf, []byte("070701")):
			return middle
		case what == "node" && s.Phys.Contains(img.IMA):
			return s.Phys.Start + 100
		}
	}
	g.Fatalf("no segment is the %s", what)
	return 0
}

const stopped = "imakexec: the kexec image changed in memory, stopped"

func TestPurgatoryStops(t *testing.T) {
	for _, what := range []string{"kernel", "initrd", "node"} {
		t.Run(what, func(t *testing.T) {
			testenv.NeedFull(t, "boots virtual machines")
			t.Parallel()
			path, err := Kernel(t.Context(), "6.12")
			if err != nil {
				t.Fatal(err)
			}
			// A machine that halts does not end by itself.
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			seen := &sight{of: stopped, then: cancel}
			res, err := RunMachine(ctx, &Config{
				Scenario: "flipped", Kernels: []string{path, path}, Init: build(t),
				Args: map[string]string{"byte": what}, Console: seen,
			})
			if err == nil || !seen.found() || res.Failed || len(res.Boots) != 1 {
				t.Errorf("no word of it, %v, boots %v\n%s", err, res.Boots, lastLines(res.Console, 40))
			}
		})
	}
}

// A byte of the buffer may change: that is what it is for.
func TestPurgatoryLeavesTheBufferAlone(t *testing.T) {
	res := Run(t, Config{Scenario: "flipped", Kernels: []string{"6.12", "7.x"}, Args: map[string]string{"byte": "buffer"}})
	Judge(t, res.Capture("end"))
	if strings.Contains(res.Console, stopped) {
		t.Error("the machine says that it stopped")
	}
}

// sight is a writer that waits for a text.
type sight struct {
	of   string
	then func()

	mu  sync.Mutex
	all []byte
}

func (s *sight) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p...)
	if bytes.Contains(s.all, []byte(s.of)) {
		s.then()
	}
	return len(p), nil
}

func (s *sight) found() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.all, []byte(s.of))
}
