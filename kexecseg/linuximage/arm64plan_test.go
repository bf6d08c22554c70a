package linuximage

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/fdt"
)

// testImage makes an arm64 Image of so many bytes that takes twice as much memory.
func testImage(size int, change func(b []byte)) []byte {
	b := make([]byte, size)
	for i := armHeaderSize; i < size; i++ {
		b[i] = byte(i * i >> 3)
	}
	le := binary.LittleEndian
	le.PutUint64(b[armImageSize:], uint64(size)*2)
	le.PutUint64(b[armFlags:], 0xa)
	copy(b[armMagic:], "ARM\x64")
	if change != nil {
		change(b)
	}
	return b
}

func compressed(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// armRoot is a captured arm64 machine: its memory and its device tree.
func armRoot(t testing.TB, machine string) fstest.MapFS {
	t.Helper()
	root := testRoot(t, "arm64_"+machine)
	delete(root, "sys/kernel/boot_params/data")
	tree, err := os.ReadFile(filepath.Join("../fdt/testdata", machine+".dtb"))
	if err != nil {
		t.Fatal(err)
	}
	root["sys/firmware/fdt"] = &fstest.MapFile{Data: tree}
	return root
}

const armMachine = "kexec_load-chain-1_arrived"

func armLinux() *Linux {
	return &Linux{
		Kernel:  bytes.NewReader(testImage(3<<20+100, nil)),
		Initrd:  strings.NewReader(strings.Repeat("initrd!", 100001)),
		Cmdline: "console=ttyAMA0 panic=-1",
	}
}

// armPlanned is an image for arm64 as the next kernel sees it.
type armPlanned struct {
	*plannedImage
	tree *fdt.Tree
	raw  []byte
}

// planARM plans, and follows the image from its entry.
func planARM(t testing.TB, l *Linux, root fstest.MapFS, imaSize uint64) *armPlanned {
	t.Helper()
	img, err := tryPlan(l, root, imaSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := kexecseg.ReadMemoryMap(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range img.Segments {
		if !slices.ContainsFunc(memory.OfType(kexecseg.RAM), func(r kexecseg.Range) bool { return r.Contains(s.Phys) }) {
			t.Errorf("a segment at %v, in\n%v", s.Phys, memory)
		}
	}
	if img.Flags != 183<<16 {
		t.Errorf("flags %#x", img.Flags)
	}
	p := &armPlanned{plannedImage: &plannedImage{Image: img, t: t}}
	code := p.at(img.Entry, 40)
	want := []byte{0xc4, 0, 0, 0x58, 0xe0, 0, 0, 0x58, 0xe1, 3, 0x1f, 0xaa, 0xe2, 3, 0x1f, 0xaa, 0xe3, 3, 0x1f, 0xaa, 0x80, 0, 0x1f, 0xd6}
	if !bytes.Equal(code[:24], want) {
		t.Fatalf("the entry holds % x", code[:24])
	}
	p.kernelAt = binary.LittleEndian.Uint64(code[24:])
	at := binary.LittleEndian.Uint64(code[32:])
	if at%(2<<20) != 0 {
		t.Errorf("the device tree is at %#x", at)
	}
	p.raw = p.at(at, 2<<20)
	if p.tree, err = fdt.Parse(p.raw); err != nil {
		t.Fatal(err)
	}
	if start := p.number("linux,initrd-start"); start != 0 {
		p.initrd = p.at(start, p.number("linux,initrd-end")-start)
	}
	return p
}

// number is a property of /chosen that holds an address of 8 bytes; 0: none.
func (p *armPlanned) number(name string) uint64 {
	v, ok := p.tree.Root.Child("chosen").Get(name)
	if !ok {
		return 0
	}
	if len(v) != 8 {
		p.t.Fatalf("%s has %d bytes", name, len(v))
	}
	return binary.BigEndian.Uint64(v)
}

func TestPlanARM64(t *testing.T) {
	l, root := armLinux(), armRoot(t, armMachine)
	p := planARM(t, l, root, 5000)
	image := testImage(3<<20+100, nil)
	if p.kernelAt%(2<<20) != 0 {
		t.Errorf("kernel at %#x", p.kernelAt)
	}
	mem := make([]byte, 2*len(image))
	copy(mem, image)
	if !bytes.Equal(p.at(p.kernelAt, uint64(len(mem))), mem) {
		t.Error("the kernel is not the image and zeros")
	}
	if string(p.initrd) != strings.Repeat("initrd!", 100001) {
		t.Error("the initrd is not what was given")
	}
	chosen := p.tree.Root.Child("chosen")
	if v, _ := chosen.Get("bootargs"); string(v) != l.Cmdline+"\x00" {
		t.Errorf("bootargs %q", v)
	}
	ima, _ := chosen.Get("linux,ima-kexec-buffer")
	regs, err := fdt.Reg(ima, 2, 2)
	if err != nil || len(regs) != 1 || (kexecseg.Range{Start: regs[0].Address, Size: regs[0].Size}) != p.IMA || p.IMA.Size != 8192 {
		t.Errorf("linux,ima-kexec-buffer %x, IMA %v, %v", ima, p.IMA, err)
	}
	start := p.number("linux,initrd-start")
	want := []fdt.Reservation{{Address: start, Size: uint64(len(p.initrd))}, {Address: p.IMA.Start, Size: 8192}}
	if !slices.Equal(p.tree.Reserved, want) {
		t.Errorf("reserved %x, want %x and nothing stale", p.tree.Reserved, want)
	}
	for name, size := range map[string]int{"kaslr-seed": 8, "rng-seed": 128} {
		if v, _ := chosen.Get(name); len(v) != size || bytes.Equal(v, make([]byte, size)) {
			t.Errorf("%s is %x", name, v)
		}
	}
	// What is not of a boot goes through as it is.
	before, err := fdt.Parse(root["sys/firmware/fdt"].Data)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(p.tree.Root.Children), len(before.Root.Children); got != want {
		t.Errorf("%d nodes, %d before", got, want)
	}
	if v, _ := chosen.Get("stdout-path"); string(v) != "/pl011@9000000\x00" {
		t.Errorf("stdout-path %q", v)
	}
}

// Nothing of an earlier handover is passed on, whatever this one has.
func TestStaleProperties(t *testing.T) {
	root := armRoot(t, armMachine)
	tree, err := fdt.Parse(root["sys/firmware/fdt"].Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"linux,elfcorehdr", "linux,usable-memory-range", "linux,kho-fdt", "linux,kho-scratch"} {
		tree.Root.Child("chosen").Set(name, make([]byte, 16))
	}
	firmware := fdt.Reservation{Address: 0x50000000, Size: 0x10000}
	tree.Reserved = append(tree.Reserved, firmware)
	if root["sys/firmware/fdt"].Data, err = tree.AppendBinary(nil); err != nil {
		t.Fatal(err)
	}
	l := armLinux()
	l.Initrd = nil
	p := planARM(t, l, root, 0)
	for _, prop := range p.tree.Root.Child("chosen").Properties {
		if strings.HasPrefix(prop.Name, "linux,") {
			t.Errorf("%s is passed on", prop.Name)
		}
	}
	if !slices.Equal(p.tree.Reserved, []fdt.Reservation{firmware}) {
		t.Errorf("reserved %x, want the firmware's alone", p.tree.Reserved)
	}
	for _, s := range p.Segments {
		if s.Phys.Overlaps(kexecseg.Range{Start: firmware.Address, Size: firmware.Size}) {
			t.Errorf("a segment at %v, in what the firmware reserves", s.Phys)
		}
	}
}

func TestPlanARM64OnEveryCapturedMachine(t *testing.T) {
	paths, err := filepath.Glob("../fdt/testdata/*.dtb")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d machines, %v", len(paths), err)
	}
	planned := 0
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".dtb")
		if _, err := os.Stat("../testdata/maps/arm64_" + name); err != nil {
			continue // its memory is that of another
		}
		planned++
		p := planARM(t, armLinux(), armRoot(t, name), 1<<20)
		if p.IMA.Size != 1<<20 {
			t.Errorf("%s: IMA %v", name, p.IMA)
		}
	}
	if planned < 10 {
		t.Errorf("%d machines planned", planned)
	}
}

// Where no kernel restores a list a handover is refused; a plain kexec is not.
func TestACPIRefused(t *testing.T) {
	root := armRoot(t, "uefi-acpi-NOT-restored_before")
	root["sys/firmware/acpi/tables/APIC"] = file("")
	if _, err := tryPlan(armLinux(), root, 4096, nil); !errors.Is(err, ErrACPI) {
		t.Errorf("with a list: %v", err)
	}
	planARM(t, armLinux(), root, 0)
}

// An ITS keeps its tables in the running kernel's memory, and only UEFI tells the next
// kernel where.
func TestITSRefused(t *testing.T) {
	with := func(machine, compatible, status string) fstest.MapFS {
		root := armRoot(t, machine)
		tree, err := fdt.Parse(root["sys/firmware/fdt"].Data)
		if err != nil {
			t.Fatal(err)
		}
		its := &fdt.Node{Name: "msi-controller@8080000"}
		its.Set("compatible", []byte(compatible))
		if status != "" {
			its.Set("status", []byte(status))
		}
		tree.Root.Children = append(tree.Root.Children, &fdt.Node{Name: "interrupt-controller@8000000", Children: []*fdt.Node{its}})
		if root["sys/firmware/fdt"].Data, err = tree.AppendBinary(nil); err != nil {
			t.Fatal(err)
		}
		return root
	}
	const its, uefi = "arm,gic-v3-its\x00", "uefi-dt-chain_before"
	if _, err := tryPlan(armLinux(), with(armMachine, its, ""), 4096, nil); !errors.Is(err, ErrITS) {
		t.Errorf("with a list: %v", err)
	}
	if _, err := tryPlan(armLinux(), with(armMachine, "its-of-a-maker\x00"+its, "okay\x00"), 4096, nil); !errors.Is(err, ErrITS) {
		t.Errorf("second name: %v", err)
	}
	planARM(t, armLinux(), with(armMachine, its, ""), 0)
	planARM(t, armLinux(), with(armMachine, its, "disabled\x00"), 4096)
	planARM(t, armLinux(), with(armMachine, "arm,gic-v3\x00", ""), 4096)
	planARM(t, armLinux(), with(uefi, its, ""), 4096)
	for cmdline, off := range map[string]bool{
		"quiet irqchip.gicv3_nolpi=1\n":                         true,
		"irqchip.gicv3_nolpi=on":                                true,
		"irqchip.gicv3_nolpi=0":                                 false,
		"irqchip.gicv3_nolpi=y irqchip.gicv3_nolpi=off":         false,
		"irqchip.gicv3_nolpi= irqchip.gicv3_pseudo_nmi=1 quiet": false,
	} {
		root := with(armMachine, its, "")
		root["proc/cmdline"] = file(cmdline)
		if off {
			planARM(t, armLinux(), root, 4096)
		} else if _, err := tryPlan(armLinux(), root, 4096, nil); !errors.Is(err, ErrITS) {
			t.Errorf("%q: %v", cmdline, err)
		}
	}
	l := armLinux()
	l.AllowITS = true
	planARM(t, l, with(armMachine, its, ""), 4096)
}

func TestARM64Images(t *testing.T) {
	le := binary.LittleEndian
	image := testImage(1<<20, nil)
	root := armRoot(t, armMachine)
	packed := compressed(t, image)
	t.Run("compressed", func(t *testing.T) {
		l := armLinux()
		l.Kernel = bytes.NewReader(packed)
		p := planARM(t, l, root, 4096)
		mem := make([]byte, 2<<20)
		copy(mem, image)
		if !bytes.Equal(p.at(p.kernelAt, 2<<20), mem) {
			t.Error("the kernel is not the uncompressed image")
		}
	})
	t.Run("text_offset", func(t *testing.T) {
		l := armLinux()
		l.Kernel = bytes.NewReader(testImage(1<<20, func(b []byte) { le.PutUint64(b[armTextOffset:], 0x80000) }))
		if p := planARM(t, l, root, 4096); p.kernelAt%(2<<20) != 0x80000 {
			t.Errorf("kernel at %#x", p.kernelAt)
		}
	})
	t.Run("padded", func(t *testing.T) {
		l := armLinux()
		l.Kernel = bytes.NewReader(append(bytes.Clone(packed), make([]byte, 3000)...))
		planARM(t, l, root, 4096)
	})
	broken := bytes.Clone(packed)
	broken[len(broken)/2] ^= 0x55
	sum := bytes.Clone(packed)
	sum[len(sum)-6] ^= 1
	for name, c := range map[string]struct {
		kernel []byte
		offset uint64
	}{
		"big-endian":      {testImage(1<<16, func(b []byte) { b[armFlags] |= 1 }), armFlags},
		"no image_size":   {testImage(1<<16, func(b []byte) { le.PutUint64(b[armImageSize:], 0) }), armImageSize},
		"small":           {testImage(1<<16, func(b []byte) { le.PutUint64(b[armImageSize:], 1<<16-1) }), armImageSize},
		"vast":            {compressed(t, testImage(1<<16, func(b []byte) { le.PutUint64(b[armImageSize:], 1<<64-1) })), armImageSize},
		"vast, plain":     {testImage(1<<16, func(b []byte) { le.PutUint64(b[armImageSize:], 1<<64-1<<16+1) }), armImageSize},
		"odd offset":      {testImage(1<<16, func(b []byte) { le.PutUint64(b[armTextOffset:], 0x123) }), armTextOffset},
		"cut":             {packed[:len(packed)-10], 1 << 20},
		"wrong checksum":  {sum, 1 << 20},
		"packed, small":   {compressed(t, testImage(1<<16, func(b []byte) { le.PutUint64(b[armImageSize:], 1<<15) })), armImageSize},
		"gzip of bzImage": {compressed(t, testKernel(1<<16, nil)), 0},
		"gzip of nothing": {compressed(t, nil), 0},
	} {
		l := armLinux()
		l.Kernel = bytes.NewReader(c.kernel)
		_, err := tryPlan(l, root, 4096, nil)
		var e *ImageError
		if !errors.As(err, &e) || e.Offset != c.offset {
			t.Errorf("%s: %v, want an error at %#x", name, err, c.offset)
		}
	}
	l := armLinux()
	l.Kernel = bytes.NewReader(broken)
	if _, err := tryPlan(l, root, 4096, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("damaged in the middle: %v", err)
	}
	l = armLinux()
	l.Purgatory = true
	if _, err := tryPlan(l, root, 4096, nil); err == nil {
		t.Error("a purgatory for arm64")
	}
}

func TestDamagedTree(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"none": func(r fstest.MapFS) { delete(r, "sys/firmware/fdt") },
		"cut":  func(r fstest.MapFS) { r["sys/firmware/fdt"].Data = r["sys/firmware/fdt"].Data[:100] },
	} {
		root := armRoot(t, armMachine)
		change(root)
		if _, err := tryPlan(armLinux(), root, 4096, nil); err == nil || !strings.Contains(err.Error(), "device tree") && !errors.Is(err, fdt.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := armLinux()
	l.Cmdline = "a\x00b"
	if _, err := tryPlan(l, armRoot(t, armMachine), 4096, nil); err == nil {
		t.Error("a NUL in the command line")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := armLinux().Plan(ctx, &kexecseg.Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Whatever the device tree holds, an answer comes back.
func FuzzARMTree(f *testing.F) {
	paths, err := filepath.Glob("../fdt/testdata/*.dtb")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	root := armRoot(f, armMachine)
	l := armLinux()
	l.Kernel = bytes.NewReader(testImage(1<<12, nil))
	l.Initrd = nil
	f.Fuzz(func(t *testing.T, tree []byte) {
		root["sys/firmware/fdt"] = &fstest.MapFile{Data: tree}
		img, err := tryPlan(l, root, 4096, nil)
		if err == nil && img.Check() != nil {
			t.Error(img.Check())
		}
	})
}

func FuzzARMImage(f *testing.F) {
	image := testImage(1<<12, nil)
	f.Add(image)
	f.Add(image[:100])
	f.Add(compressed(f, image))
	f.Add(compressed(f, testImage(1<<12, func(b []byte) { binary.LittleEndian.PutUint64(b[armImageSize:], 1<<64-1) })))
	f.Add(append(compressed(f, image), 0, 0))
	root := armRoot(f, armMachine)
	f.Fuzz(func(t *testing.T, image []byte) {
		l := armLinux()
		l.Kernel = bytes.NewReader(image)
		if img, err := tryPlan(l, root, 4096, nil); err == nil {
			img.Close()
		}
	})
}

func TestARMCommandLine(t *testing.T) {
	for size, ok := range map[int]bool{2047: true, 2048: false} {
		l := armLinux()
		l.Cmdline = strings.Repeat("a", size)
		if _, err := tryPlan(l, armRoot(t, armMachine), 5000, nil); (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Where the initrd has no place in the kernel's window, the kernel goes to another.
func TestARMInitrdWindow(t *testing.T) {
	l := armLinux()
	l.Initrd = bytes.NewReader(make([]byte, 100<<20))
	root := armRoot(t, armMachine)
	root["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: 2097152 kB\n")}
	high := kexecseg.Range{Start: 0x80_0000_0000, Size: 1 << 30}
	memory := kexecseg.MemoryMap{
		{Range: kexecseg.Range{Start: 0x8000_0000, Size: 64 << 20}, Type: kexecseg.RAM},
		{Range: kexecseg.Range{Start: 0x8400_0000, Size: 960 << 20}, Type: kexecseg.CrashKernel},
		{Range: high, Type: kexecseg.RAM},
	}
	img, err := l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: 5000, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range img.Segments {
		if len(s.Buf) >= 3<<20 && !high.Contains(s.Phys) {
			t.Errorf("%d bytes at %v", len(s.Buf), s.Phys)
		}
	}
	memory[2].Size = 64 << 20 // no place at all
	var none *kexecseg.PlacementError
	if _, err := l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: 5000, Root: root}); !errors.As(err, &none) || none.Piece.Name != "initrd" {
		t.Errorf("no place: %v", err)
	}
}
