package linuximage

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imakexec/imakexec/kexecseg"
)

// testKernel makes a bzImage of protocol 2.15 with size bytes of code, and lets
// change damage it.
func testKernel(size int, change func(b []byte)) []byte {
	const setup = 4 * 512
	b := make([]byte, setup+size)
	le := binary.LittleEndian
	b[offSetupSects] = setup/512 - 1
	le.PutUint32(b[offSyssize:], uint32(size/16))
	le.PutUint16(b[offBootFlag:], 0xaa55)
	b[offJump-1], b[offJump] = 0xeb, 0x6a
	copy(b[offHeader:], "HdrS")
	le.PutUint16(b[offVersion:], 0x20f)
	le.PutUint32(b[offInitrdMax:], 0x7fffffff)
	le.PutUint32(b[offAlignment:], 0x200000)
	b[offRelocatable] = 1
	le.PutUint16(b[offXLoadFlags:], kernel64|loadedAbove4G)
	le.PutUint32(b[offCmdlineSize:], 2047)
	le.PutUint32(b[offPayload:], 0x300)
	le.PutUint32(b[offPayloadSize:], uint32(size)-0x400)
	le.PutUint64(b[offPrefAddress:], 0x1000000)
	le.PutUint32(b[offInitSize:], uint32(size)*4)
	for i := range size {
		b[setup+i] = byte(i * i >> 3)
	}
	if change != nil {
		change(b)
	}
	return b
}

// testRoot is a machine's files: a captured memory map and the running kernel's
// boot_params.
func testRoot(t testing.TB, machine string) fstest.MapFS {
	t.Helper()
	root := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal:         973312 kB\nMemFree:          100000 kB\n")}}
	dir := filepath.Join("../testdata/maps", machine)
	iomem, err := os.ReadFile(filepath.Join(dir, "iomem"))
	if err != nil {
		t.Fatal(err)
	}
	root["proc/iomem"] = &fstest.MapFile{Data: iomem}
	if text, err := os.ReadFile(filepath.Join(dir, "memmap")); err == nil {
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			span, kind, _ := strings.Cut(line, " ")
			start, end, _ := strings.Cut(span, "-")
			for name, content := range map[string]string{"start": start, "end": end, "type": kind} {
				root[fmt.Sprintf("sys/firmware/memmap/%d/%s", i, name)] = &fstest.MapFile{Data: []byte(content + "\n")}
			}
		}
	}
	params := make([]byte, bootParamsSize)
	for i := range params {
		params[i] = 0xee // nothing of it may be passed on but what must
	}
	binary.LittleEndian.PutUint64(params[offRSDP:], 0x12345)
	root["sys/kernel/boot_params/data"] = &fstest.MapFile{Data: params}
	return root
}

const biosMachine, efiMachine = "big_6.12-cloud_big", "x86-efi_6.12_before"

// plan plans on a machine, and audits what every plan must be.
func plan(t testing.TB, l *Linux, root fs.FS, imaSize uint64) *plannedImage {
	t.Helper()
	img, err := tryPlan(l, root, imaSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, img, root)
}

func tryPlan(l *Linux, root fs.FS, imaSize uint64, more []byte) (*kexecseg.Image, error) {
	memory, err := kexecseg.ReadMemoryMap(root)
	if err != nil {
		return nil, err
	}
	return l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: imaSize, Initrd: more, Root: root})
}

// node is a setup_data node as the next kernel finds it.
type node struct {
	at      uint64
	kind    uint32
	payload []byte
}

// plannedImage is an image for x86-64 as the next kernel sees it.
type plannedImage struct {
	*kexecseg.Image
	params         []byte // boot_params
	kernel, initrd []byte
	cmdline        string
	kernelAt       uint64
	nodes          map[uint32]node
	e820           []kexecseg.MemoryRange // type as a number in text
	t              testing.TB
}

// at returns the size bytes at a physical address, which one segment holds.
func (img *plannedImage) at(addr, size uint64) []byte {
	img.t.Helper()
	for _, s := range img.Segments {
		if s.Phys.Contains(kexecseg.Range{Start: addr, Size: size}) {
			mem := make([]byte, s.Phys.Size)
			copy(mem, s.Buf)
			return mem[addr-s.Phys.Start:][:size]
		}
	}
	img.t.Fatalf("no segment holds %d bytes at %#x", size, addr)
	return nil
}

// read follows the image from its entry as processor and kernel would, with the
// offsets of the boot protocol written out.
func read(t testing.TB, img *kexecseg.Image, root fs.FS) *plannedImage {
	t.Helper()
	if err := img.Check(); err != nil {
		t.Fatal(err)
	}
	memory, err := kexecseg.ReadMemoryMap(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range img.Segments {
		inside := false
		for _, r := range memory.OfType(kexecseg.RAM) {
			inside = inside || r.Contains(s.Phys)
		}
		if !inside || s.Phys.Start < 1<<20 {
			t.Errorf("a segment at %v, in\n%v", s.Phys, memory)
		}
	}
	p := &plannedImage{Image: img, t: t, nodes: map[uint32]node{}}
	le := binary.LittleEndian
	code := p.at(img.Entry, 22)
	if !bytes.Equal(code[:2], []byte{0x48, 0xbe}) || !bytes.Equal(code[10:12], []byte{0x48, 0xb8}) || !bytes.Equal(code[20:], []byte{0xff, 0xe0}) {
		t.Fatalf("the entry holds % x", code)
	}
	p.params = p.at(le.Uint64(code[2:]), 4096)
	p.kernelAt = le.Uint64(code[12:]) - 0x200
	split := func(low, high int) uint64 {
		return uint64(le.Uint32(p.params[low:])) | uint64(le.Uint32(p.params[high:]))<<32
	}
	p.kernel = p.at(p.kernelAt, uint64(le.Uint32(p.params[0x260:])))
	if n := split(0x21c, 0xc4); n > 0 {
		p.initrd = p.at(split(0x218, 0xc0), n)
	}
	line := p.at(split(0x228, 0xc8), 1)
	for addr := split(0x228, 0xc8); line[0] != 0; addr++ {
		p.cmdline += string(line)
		line = p.at(addr+1, 1)
	}
	table := bytes.Clone(p.params[0x2d0:][:int(p.params[0x1e8])*20])
	for addr := le.Uint64(p.params[0x250:]); addr != 0; {
		h := p.at(addr, 16)
		n := node{addr, le.Uint32(h[8:]), p.at(addr+16, uint64(le.Uint32(h[12:])))}
		if _, twice := p.nodes[n.kind]; twice {
			t.Errorf("two nodes of type %d", n.kind)
		}
		p.nodes[n.kind] = n
		addr = le.Uint64(h)
	}
	table = append(table, p.nodes[1].payload...)
	for ; len(table) > 0; table = table[20:] {
		p.e820 = append(p.e820, kexecseg.MemoryRange{
			Range: kexecseg.Range{Start: le.Uint64(table), Size: le.Uint64(table[8:])},
			Type:  kexecseg.MemoryType(fmt.Sprint(le.Uint32(table[16:]))),
		})
	}
	return p
}

// counted counts what is read.
type counted struct {
	io.ReaderAt
	bytes int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += n
	return n, err
}
