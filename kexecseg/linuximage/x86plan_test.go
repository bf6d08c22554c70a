package linuximage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imakexec/imakexec/kexecseg"
)

func testLinux() *Linux {
	return &Linux{
		Kernel:  bytes.NewReader(testKernel(1<<20, nil)),
		Initrd:  strings.NewReader(strings.Repeat("initrd!", 100001)),
		Cmdline: "console=ttyS0 panic=-1",
	}
}

func TestPlanX86(t *testing.T) {
	l := testLinux()
	root := testRoot(t, biosMachine)
	img := plan(t, l, root, 5000)
	le := binary.LittleEndian

	kernel := testKernel(1<<20, nil)
	want := make([]byte, 4<<20)
	copy(want, kernel[2048:])
	if !bytes.Equal(img.kernel, want) || img.kernelAt != 0x1000000 {
		t.Errorf("the kernel at %#x is not the image's code and zeros", img.kernelAt)
	}
	if string(img.initrd) != strings.Repeat("initrd!", 100001) {
		t.Error("the initrd is not what was given")
	}
	if img.cmdline != l.Cmdline {
		t.Errorf("command line %q", img.cmdline)
	}
	if img.Flags != 62<<16 {
		t.Errorf("flags %#x", img.Flags)
	}

	// boot_params: the header, what was checked above, and nothing else.
	p := bytes.Clone(img.params)
	if p[0x210] != 0xff {
		t.Errorf("type_of_loader %#x", p[0x210])
	}
	if got := le.Uint64(p[0x70:]); got != 0x12345 {
		t.Errorf("acpi_rsdp_addr %#x", got)
	}
	for _, set := range [][2]int{{0x210, 1}, {0x218, 8}, {0x228, 4}, {0x250, 8}} {
		copy(p[set[0]:][:set[1]], kernel[set[0]:])
	}
	if !bytes.Equal(p[0x1f1:0x26c], kernel[0x1f1:0x26c]) {
		t.Error("the setup header is not the image's")
	}
	clear(p[0x1e8:0x1e9])
	clear(p[0x1f1:0x26c])
	clear(p[0x2d0:][:int(img.params[0x1e8])*20])
	clear(p[0x70:0x78])
	clear(p[:0x40])
	clear(p[0xc0:0xcc])
	if !bytes.Equal(p, make([]byte, 4096)) {
		t.Errorf("boot_params hold more than they should:\n%x", p)
	}

	// The list of nodes: a seed, and the IMA buffer inside its node.
	if len(img.nodes) != 2 || len(img.nodes[9].payload) != 32 {
		t.Errorf("nodes %x", img.nodes)
	}
	ima := img.nodes[8]
	addr, size := le.Uint64(ima.payload), le.Uint64(ima.payload[8:])
	if (img.IMA != kexecseg.Range{Start: addr, Size: size}) || size != 8192 || addr != ima.at+4096 || uint64(len(ima.payload)) != 4096-16+8192 {
		t.Errorf("node at %#x of %d bytes, buffer at %#x of %d, IMA %v", ima.at, len(ima.payload), addr, size, img.IMA)
	}
	m, err := img.Map(img.IMA)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Bytes(), "list")
	if string(img.at(addr, 4)) != "list" {
		t.Error("the mapping is not the buffer")
	}

	const e820 = `0x0-0x9fbff 1
0x9fc00-0x9ffff 2
0xf0000-0xfffff 2
0x100000-0x3ffcefff 1
0x3ffcf000-0x3fffffff 2
0xfffc0000-0xffffffff 2
0xfd00000000-0xffffffffff 2
`
	if got := kexecseg.MemoryMap(img.e820).String(); got != e820 {
		t.Errorf("e820:\n%s", got)
	}
	if last := img.IMA.End(); last > 0x3ffcf000-64<<10 {
		t.Errorf("the buffer ends at %#x", last)
	}
}

func TestPlanWithoutList(t *testing.T) {
	img := plan(t, testLinux(), testRoot(t, biosMachine), 0)
	if len(img.nodes) != 1 || len(img.nodes[9].payload) != 32 || img.IMA.Size != 0 || len(img.Segments) != 3 {
		t.Errorf("nodes %x, IMA %v", img.nodes, img.IMA)
	}
}

// A seed is used once.
func TestSeedsAreFresh(t *testing.T) {
	l, root := testLinux(), testRoot(t, biosMachine)
	a, b := plan(t, l, root, 1), plan(t, l, root, 1)
	if bytes.Equal(a.nodes[9].payload, b.nodes[9].payload) || bytes.Equal(a.nodes[9].payload, make([]byte, 32)) {
		t.Errorf("seeds %x and %x", a.nodes[9].payload, b.nodes[9].payload)
	}
}

// A list that outgrows its buffer is planned again with a larger one.
func TestPlanAgain(t *testing.T) {
	l, root := testLinux(), testRoot(t, biosMachine)
	for _, size := range []uint64{1, 4096, 4097, 3 << 20, 100 << 20} {
		img := plan(t, l, root, size)
		if img.IMA.Size != roundUp(size, 4096) {
			t.Errorf("asked for %d, got %v", size, img.IMA)
		}
	}
	for _, size := range []uint64{1<<31 + 1, 1 << 40, ^uint64(0)} {
		if _, err := tryPlan(l, root, size, nil); err == nil {
			t.Errorf("a buffer of %d bytes", size)
		}
	}
	var e *kexecseg.PlacementError
	if _, err := tryPlan(l, root, 1<<30, nil); !errors.As(err, &e) || e.Piece.Name != "IMA buffer" || e.Largest == 0 {
		t.Errorf("a buffer of 1 GiB: %v", err)
	}
}

func TestPlanOnEveryCapturedMachine(t *testing.T) {
	dirs, err := filepath.Glob("../testdata/maps/*")
	if err != nil || len(dirs) < 20 {
		t.Fatalf("%d machines, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		if name := filepath.Base(dir); !strings.HasPrefix(name, "arm64") {
			t.Run(name, func(t *testing.T) {
				img := plan(t, testLinux(), testRoot(t, name), 1<<20)
				if img.kernelAt != 0x1000000 || img.IMA.Size != 1<<20 {
					t.Errorf("kernel at %#x, buffer at %v", img.kernelAt, img.IMA)
				}
			})
		}
	}
}

// A map of more entries than boot_params holds goes on in a node.
func TestE820Ext(t *testing.T) {
	root := testRoot(t, biosMachine)
	l := testLinux()
	var memory kexecseg.MemoryMap
	add := func(start, size uint64, kind kexecseg.MemoryType) {
		memory = append(memory, kexecseg.MemoryRange{Range: kexecseg.Range{Start: start, Size: size}, Type: kind})
	}
	add(0, 0x9f000, kexecseg.RAM)
	add(0x100000, 0x20000000, kexecseg.RAM)
	types := []kexecseg.MemoryType{kexecseg.Reserved, kexecseg.ACPITables, kexecseg.ACPINVS, kexecseg.Unusable,
		kexecseg.Persistent, kexecseg.LegacyPmem, kexecseg.SoftReserve, "Unknown E820 type"}
	for i := range uint64(200) {
		add(0x30000000+i*0x2000, 0x1000, types[i%8])
	}
	add(0x40000000, 0x1000, kexecseg.CrashKernel)
	add(0x40001000, 0x1000, kexecseg.Kept)
	img, err := l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: 4096, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	p := read(t, img, rootOf(memory))
	if p.params[0x1e8] != 128 || len(p.nodes[1].payload) != 75*20 || len(p.e820) != 203 {
		t.Fatalf("%d entries, %d bytes in the node, %d together", p.params[0x1e8], len(p.nodes[1].payload), len(p.e820))
	}
	wantTypes := []string{"2", "3", "4", "5", "7", "12", "4026531839", "2"}
	for i, r := range p.e820[2:202] {
		if want := fmt.Sprintf("%v %s", memory[2+i].Range, wantTypes[i%8]); fmt.Sprintf("%v %s", r.Range, r.Type) != want {
			t.Errorf("entry %d is %v %s, want %s", i+2, r.Range, r.Type, want)
		}
	}
	if got := p.e820[202]; got.Size != 0x2000 || got.Type != "1" {
		t.Errorf("what the running kernel keeps is %v %s to the next", got.Range, got.Type)
	}
}

// rootOf is a machine with that memory map.
func rootOf(m kexecseg.MemoryMap) fstest.MapFS {
	root := fstest.MapFS{}
	for i, r := range m {
		dir := fmt.Sprintf("sys/firmware/memmap/%d/", i)
		root[dir+"start"] = &fstest.MapFile{Data: fmt.Appendf(nil, "%#x\n", r.Start)}
		root[dir+"end"] = &fstest.MapFile{Data: fmt.Appendf(nil, "%#x\n", r.End()-1)}
		root[dir+"type"] = &fstest.MapFile{Data: []byte(string(r.Type) + "\n")}
	}
	return root
}

func TestRSDP(t *testing.T) {
	for name, c := range map[string]struct {
		change func(fstest.MapFS)
		want   uint64
	}{
		"from boot_params": {func(fstest.MapFS) {}, 0x12345},
		"from systab": {func(r fstest.MapFS) {
			r["sys/firmware/efi/systab"] = file("ACPI20=0x3f77d014\nACPI=0x3f77d000\nSMBIOS=0x3f5c5000\n")
		}, 0x3f77d014},
		"from an odd systab": {func(r fstest.MapFS) {
			r["sys/firmware/efi/systab"] = file("ACPI20\nfuture\nTABLE=somewhere\n=\n\nACPI=0x3f77d000\n")
		}, 0x3f77d000},
		"from an older systab": {func(r fstest.MapFS) { r["sys/firmware/efi/systab"] = file("ACPI=0x3f77d000\n") }, 0x3f77d000},
		"nobody knows":         {func(r fstest.MapFS) { delete(r, "sys/kernel/boot_params/data") }, 0},
	} {
		root := testRoot(t, efiMachine)
		c.change(root)
		img := plan(t, testLinux(), root, 1)
		if got := binary.LittleEndian.Uint64(img.params[0x70:]); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}

func file(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

func TestPlanPlaces(t *testing.T) {
	root := testRoot(t, biosMachine)
	t.Run("another place for the kernel", func(t *testing.T) {
		l := testLinux()
		l.Reserved = []kexecseg.Range{{Start: 0x1234567, Size: 1}}
		if img := plan(t, l, root, 1); img.kernelAt != 0x1400000 {
			t.Errorf("kernel at %#x", img.kernelAt)
		}
	})
	t.Run("no other place for one that is not relocatable", func(t *testing.T) {
		l := testLinux()
		l.Kernel = bytes.NewReader(testKernel(1<<20, func(b []byte) { b[offRelocatable] = 0 }))
		if img := plan(t, l, root, 1); img.kernelAt != 0x1000000 {
			t.Errorf("kernel at %#x", img.kernelAt)
		}
		l.Reserved = []kexecseg.Range{{Start: 0x1234567, Size: 1}}
		if _, err := tryPlan(l, root, 1, nil); !errors.Is(err, kexecseg.ErrPlacement) {
			t.Error(err)
		}
	})
	t.Run("below initrd_addr_max", func(t *testing.T) {
		l := testLinux()
		l.Kernel = bytes.NewReader(testKernel(1<<20, func(b []byte) {
			binary.LittleEndian.PutUint32(b[offInitrdMax:], 0x1fffffff)
		}))
		img := plan(t, l, root, 1)
		for _, s := range img.Segments {
			if s.Phys.End() > 0x20000000 {
				t.Errorf("a segment at %v", s.Phys)
			}
		}
	})
	t.Run("too large an initrd", func(t *testing.T) {
		l := testLinux()
		l.Initrd = &endless{600 << 20}
		var e *kexecseg.PlacementError
		if _, err := tryPlan(l, root, 1, nil); !errors.As(err, &e) || e.Piece.Name != "initrd" || e.Largest < 400<<20 {
			t.Error(err)
		}
	})
}

// endless is so many bytes that nobody should read.
type endless struct{ size int64 }

func (e *endless) Size() int64                       { return e.size }
func (e *endless) ReadAt([]byte, int64) (int, error) { panic("read before it was placed") }

func TestCommandLine(t *testing.T) {
	root := testRoot(t, biosMachine)
	for cmdline, ok := range map[string]bool{
		"": true, strings.Repeat("x", 2047): true, strings.Repeat("x", 2048): false, "a\x00b": false,
	} {
		l := testLinux()
		l.Cmdline = cmdline
		img, err := tryPlan(l, root, 1, nil)
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", len(cmdline), err)
		}
		if err == nil && read(t, img, root).cmdline != cmdline {
			t.Errorf("%d bytes arrive as others", len(cmdline))
		}
	}
}

// Each source is read once by a Plan, and not before there is a place for it.
func TestSourcesAreReadOnce(t *testing.T) {
	kernel := &counted{ReaderAt: bytes.NewReader(testKernel(1<<20, nil))}
	initrd := &counted{ReaderAt: strings.NewReader(strings.Repeat("i", 3<<20+1))}
	img := plan(t, &Linux{Kernel: kernel, Initrd: initrd}, testRoot(t, biosMachine), 1)
	if len(img.initrd) != 3<<20+1 {
		t.Errorf("initrd of %d bytes", len(img.initrd))
	}
	// The readers don't tell their size: a few bytes are read to find it.
	if kernel.bytes > 1<<20+bzImageMinSize+100 || initrd.bytes > 3<<20+100 {
		t.Errorf("%d bytes of kernel and %d of initrd were read", kernel.bytes, initrd.bytes)
	}
}

func TestDamagedMachine(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"half a boot_params": func(r fstest.MapFS) { r["sys/kernel/boot_params/data"] = file("short") },
		"meminfo":            func(r fstest.MapFS) { r["proc/meminfo"] = file("MemTotal: lots\n") },
	} {
		root := testRoot(t, biosMachine)
		change(root)
		if _, err := tryPlan(testLinux(), root, 1, nil); err == nil {
			t.Errorf("%s: planned", name)
		}
	}
}

func TestNoKernel(t *testing.T) {
	var image *ImageError
	if _, err := tryPlan(&Linux{}, testRoot(t, biosMachine), 5000, nil); !errors.As(err, &image) {
		t.Errorf("planned without a kernel: %v", err)
	}
}

// What the firmware calls by a word that is not known is not the next kernel's to use.
func TestUnknownFirmwareType(t *testing.T) {
	root := testRoot(t, efiMachine)
	reserved := 0
	for name, f := range root {
		if strings.HasPrefix(name, "sys/firmware/memmap/") && strings.TrimSpace(string(f.Data)) == "Reserved" {
			root[name] = &fstest.MapFile{Data: []byte("Device reserved\n")}
			reserved++
		}
	}
	for _, r := range plan(t, testLinux(), root, 5000).e820 {
		if r.Type == "2" {
			reserved--
		}
	}
	if reserved != 0 {
		t.Errorf("%d ranges are missing", reserved)
	}
}

// An initrd goes above 4 GiB where there is no room below, if the kernel can read it there.
func TestInitrdAbove4G(t *testing.T) {
	root := testRoot(t, biosMachine)
	root["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: 8388608 kB\n")}
	memory := kexecseg.MemoryMap{
		{Range: kexecseg.Range{Start: 1 << 20, Size: 127 << 20}, Type: kexecseg.RAM},
		{Range: kexecseg.Range{Start: 1 << 32, Size: 7 << 30}, Type: kexecseg.RAM},
	}
	for _, high := range []bool{true, false} {
		l := testLinux()
		l.Initrd = bytes.NewReader(make([]byte, 200<<20))
		if !high {
			l.Kernel = bytes.NewReader(testKernel(1<<20, func(h []byte) { h[offXLoadFlags] &^= loadedAbove4G }))
		}
		img, err := l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: 5000, Root: root})
		if (err == nil) != high {
			t.Errorf("a kernel that reads it there: %v; %v", high, err)
		}
		if err != nil {
			continue
		}
		for _, s := range img.Segments {
			if len(s.Buf) >= 200<<20 && s.Phys.Start < 1<<32 {
				t.Errorf("it is at %v", s.Phys)
			}
		}
	}
}
