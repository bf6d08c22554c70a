package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/internal/testenv"
)

// captured are the trees of real boots under QEMU, before and after a kexec.
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.dtb")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d trees, %v", len(paths), err)
	}
	trees := make(map[string][]byte)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		trees[filepath.Base(path)] = b
	}
	return trees
}

// source is what dtc makes of a tree.
func source(t *testing.T, b []byte) string {
	t.Helper()
	cmd := exec.Command("dtc", "-q", "-I", "dtb", "-O", "dts")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dtc: %v", err)
	}
	return string(out)
}

// Every captured tree, read and written again, is the same to dtc, and no larger.
func TestDTCReadsTheSame(t *testing.T) {
	if _, err := exec.LookPath("dtc"); err != nil {
		testenv.Skip(t, "needs dtc, Debian's package device-tree-compiler")
	}
	for name, b := range captured(t) {
		tree, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := tree.AppendBinary(nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := source(t, again), source(t, b); got != want {
			t.Errorf("%s: dtc reads\n%s\nand of the original\n%s", name, got, want)
		}
		if len(again) > len(b) {
			t.Errorf("%s: %d bytes became %d", name, len(b), len(again))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for name, b := range captured(t) {
		tree, err := Parse(append(b, "what follows the tree"...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := tree.AppendBinary([]byte("prefix"))
		if err != nil || !bytes.HasPrefix(out, []byte("prefix")) {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := Parse(out[len("prefix"):])
		if err != nil || !reflect.DeepEqual(back, tree) {
			t.Errorf("%s: another tree comes back, %v", name, err)
		}
	}
}

func TestTree(t *testing.T) {
	tree, err := Parse(captured(t)["kexec_load-chain-1_arrived.dtb"])
	if err != nil {
		t.Fatal(err)
	}
	want := []Reservation{{0x41250000, 0xae5200}, {0x41d36000, 0x1000}}
	if !reflect.DeepEqual(tree.Reserved, want) {
		t.Errorf("reserved %x", tree.Reserved)
	}
	ac, sc, err := tree.Root.Cells()
	if ac != 2 || sc != 2 || err != nil {
		t.Errorf("%d and %d cells, %v", ac, sc, err)
	}
	reg, _ := tree.Root.Child("memory@40000000").Get("reg")
	memory, err := Reg(reg, ac, sc)
	if err != nil || !reflect.DeepEqual(memory, []Reservation{{0x40000000, 0x40000000}}) {
		t.Errorf("memory %x, %v", memory, err)
	}
	chosen := tree.Root.Child("chosen")
	if v, ok := chosen.Get("stdout-path"); !ok || string(v) != "/pl011@9000000\x00" {
		t.Errorf("stdout-path %q", v)
	}
	chosen.Set("bootargs", []byte("quiet\x00"))
	chosen.Set("new", nil)
	chosen.Delete("kaslr-seed")
	if v, _ := chosen.Get("bootargs"); string(v) != "quiet\x00" {
		t.Errorf("bootargs %q", v)
	}
	if v, ok := chosen.Get("new"); !ok || len(v) != 0 {
		t.Errorf("an empty property: %q, %v", v, ok)
	}
	if _, ok := chosen.Get("kaslr-seed"); ok {
		t.Error("a deleted property is there")
	}
	if tree.Root.Child("memory") != nil {
		t.Error("a node is found by half its name")
	}
}

func TestCells(t *testing.T) {
	if b, err := AppendCells(nil, 1<<32, 2); err != nil || !bytes.Equal(b, []byte{0, 0, 0, 1, 0, 0, 0, 0}) {
		t.Errorf("%x, %v", b, err)
	}
	if b, err := AppendCells(nil, 7, 1); err != nil || !bytes.Equal(b, []byte{0, 0, 0, 7}) {
		t.Errorf("%x, %v", b, err)
	}
	for _, cells := range []int{0, 1, 3} {
		if _, err := AppendCells(nil, 1<<32, cells); err == nil {
			t.Errorf("4 GiB in %d cells", cells)
		}
	}
	regs, err := Reg([]byte{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3}, 2, 1)
	if err != nil || !reflect.DeepEqual(regs, []Reservation{{1<<32 | 2, 3}}) {
		t.Errorf("%x, %v", regs, err)
	}
	for _, bad := range [][2]int{{0, 0}, {2, 2}, {3, 1}, {-1, 2}} {
		if regs, err := Reg(make([]byte, 12), bad[0], bad[1]); err == nil {
			t.Errorf("%v cells: %v", bad, regs)
		}
	}
	n := &Node{}
	if a, s, err := n.Cells(); a != 2 || s != 1 || err != nil {
		t.Errorf("defaults %d and %d, %v", a, s, err)
	}
	for _, v := range [][]byte{{0, 0, 0, 3}, {2}, {0xff, 0xff, 0xff, 0xff}} {
		n.Set("#size-cells", v)
		if _, _, err := n.Cells(); err == nil {
			t.Errorf("#size-cells of %x", v)
		}
	}
}

// Damaged trees are refused with the offset of the damage.
func TestParseErrors(t *testing.T) {
	be := binary.BigEndian
	good := captured(t)["kexec_load-chain-1_before.dtb"]
	structs := be.Uint32(good[8:])
	for name, c := range map[string]struct {
		damage func(b []byte) []byte
		offset uint64
	}{
		"empty":             {func(b []byte) []byte { return nil }, 0},
		"half a header":     {func(b []byte) []byte { return b[:39] }, 39},
		"magic":             {func(b []byte) []byte { b[0] = 0; return b }, 0},
		"cut":               {func(b []byte) []byte { return b[:len(b)-1] }, 4},
		"tiny totalsize":    {func(b []byte) []byte { be.PutUint32(b[4:], 8); return b }, 4},
		"old version":       {func(b []byte) []byte { be.PutUint32(b[20:], 3); return b }, 20},
		"future version":    {func(b []byte) []byte { be.PutUint32(b[24:], 18); return b }, 20},
		"strings outside":   {func(b []byte) []byte { be.PutUint32(b[12:], 1<<31); return b }, 12},
		"strings too long":  {func(b []byte) []byte { be.PutUint32(b[32:], 1<<32-1); return b }, 12},
		"structure outside": {func(b []byte) []byte { be.PutUint32(b[36:], 1<<32-1); return b }, 8},
		"odd structure":     {func(b []byte) []byte { be.PutUint32(b[8:], structs+1); be.PutUint32(b[36:], 100); return b }, 8},
		"no root":           {func(b []byte) []byte { be.PutUint32(b[structs:], 7); return b }, uint64(structs)},
		"short structure":   {func(b []byte) []byte { be.PutUint32(b[36:], 16); return b }, uint64(structs) + 16},
	} {
		tree, err := Parse(c.damage(bytes.Clone(good)))
		var e *FormatError
		if !errors.As(err, &e) || !errors.Is(err, ErrFormat) || e.Offset != c.offset {
			t.Errorf("%s: %v, %v, want an error at %#x", name, tree, err, c.offset)
		}
	}
	far := bytes.Clone(good)
	be.PutUint32(far[16:], uint32(len(far))-8)
	if _, err := Parse(far); !errors.Is(err, ErrFormat) {
		t.Errorf("reservations outside: %v", err)
	}
}

func TestAppendErrors(t *testing.T) {
	deep := &Node{}
	for n, i := deep, 0; i < 64; i++ {
		n.Children = []*Node{{Name: "child"}}
		n = n.Children[0]
	}
	for name, tree := range map[string]*Tree{
		"no root":             {},
		"too deep":            {Root: deep},
		"NUL in a node":       {Root: &Node{Name: "a\x00b"}},
		"NUL in a property":   {Root: &Node{Properties: []Property{{"a\x00", nil}}}},
		"nameless property":   {Root: &Node{Properties: []Property{{"", nil}}}},
		"empty reservation":   {Root: &Node{}, Reserved: []Reservation{{}}},
		"deep under its root": {Root: &Node{Children: []*Node{deep}}},
	} {
		if b, err := tree.AppendBinary(nil); err == nil {
			t.Errorf("%s: written as %x", name, b)
		} else if !strings.HasPrefix(err.Error(), "fdt: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is read can be written, and reads as the same tree.
func FuzzParse(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v is no FormatError", err)
			}
			return
		}
		out, err := tree.AppendBinary(nil)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := Parse(out)
		if err != nil || !reflect.DeepEqual(back, tree) {
			t.Fatalf("another tree comes back, %v", err)
		}
	})
}

// A tree whose properties all have one long name takes no more memory than others.
func TestParseLongNames(t *testing.T) {
	root := &Node{}
	for range 1000 {
		root.Properties = append(root.Properties, Property{Name: strings.Repeat("n", 100<<10)})
	}
	b, err := (&Tree{Root: root}).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tree, err := Parse(b)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err != nil || len(tree.Root.Properties) != 1000 || n > 16*uint64(len(b)) {
		t.Errorf("%d bytes took %d, %v", len(b), n, err)
	}
}
