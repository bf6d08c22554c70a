//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/internal/testenv"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
	"github.com/imakexec/imakexec/kexecseg/purgatory"
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
		img := plan(g, checked(g), 1<<16)
		fill(g, img)
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
	arrivesWhole,
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

// sse takes the purgatory on the way of a CPU with SHA extensions, which emulators lack,
// as far as its first SSE instruction; from there it is the plain routine's. The argument
// leaves SSE as the kernel leaves it: switched off.
var sse = Scenario{Name: "sse", Boots: []func(*Guest){
	func(g *Guest) {
		img := plan(g, checked(g), 1<<16)
		fill(g, img)
		m, err := img.Map(kexecseg.Range{Start: img.Entry, Size: purgatory.Size()})
		g.Check(err, "map")
		code := m.Bytes()
		patch := func(what string, old, instructions []byte) {
			at := bytes.Index(code, old)
			if at < 0 {
				g.Fatalf("the purgatory does not %s", what)
			}
			copy(code[at:], instructions)
		}
		patch("ask for the extensions", []byte{0x31, 0xc0, 0x0f, 0xa2}, // xor eax, eax; cpuid
			[]byte{0x48, 0x85, 0xe4, 0xc3}) // test rsp, rsp; ret: it has them
		if g.Arg("sse") == "off" {
			patch("write to CR4", []byte{0x0f, 0x22, 0xe0}, []byte{0x90, 0x90, 0x90}) // mov cr4, rax
		}
		le := binary.LittleEndian
		plain, extended := le.Uint32(code[8:]), le.Uint32(code[12:])     // of the header
		routine := append(code[:extended], 0x66, 0x0f, 0xef, 0xc0, 0xe9) // pxor xmm0, xmm0; jmp plain
		le.AppendUint32(routine, plain-(uint32(len(routine))+4))         // in place
		g.Check(m.Unmap(), "unmap")
		g.Check(kexecseg.Load(img), "load")
		jump(g)
	},
	arrivesWhole,
}}

// The purgatory switches SSE on before it uses it.
func TestPurgatorySSE(t *testing.T) {
	Judge(t, Run(t, Config{Scenario: "sse", Kernels: []string{"6.12", "6.12"}}).Capture("end"))
}

// What TestPurgatorySSE runs needs that: without, the machine dies of it.
func TestPurgatoryWithoutSSE(t *testing.T) {
	res, err := run(t, Config{Scenario: "sse", Kernels: []string{"6.12", "6.12"}, Args: map[string]string{"sse": "off"}})
	if err == nil || res.Failed || len(res.Boots) != 1 {
		t.Errorf("%v, boots %v\n%s", err, res.Boots, lastLines(res.Console, 40))
	}
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
