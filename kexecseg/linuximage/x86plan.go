package linuximage

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/imakexec/imakexec/kexecseg"
)

const (
	pageSize  = 4096
	lowMemory = 1 << 20 // below it the next kernel has its trampoline and the BIOS its data
	seedSize  = 32      // RNG_SEED_LENGTH
)

func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

// x86Plan is what one Plan works on.
type x86Plan struct {
	*bzImage
	initrd  source
	more    []byte // appended to the initrd
	cmdline string
	imaSize uint64
	memory  kexecseg.MemoryMap
	machine *machine
	planner kexecseg.Planner
}

// image places the pieces, and only then allocates and reads them.
//
// The segments are the kernel; the initrd; the SETUP_IMA node, whose first page is
// its header and payload and whose other pages are the buffer; and the parameters:
// boot_params, the trampoline, the command line, the other setup_data nodes.
func (p *x86Plan) image(ctx context.Context) (*kexecseg.Image, error) {
	nodes, err := p.nodes()
	if err != nil {
		return nil, err
	}
	if n := uint64(len(p.cmdline)); n > p.bzImage.cmdline {
		return nil, fmt.Errorf("linuximage: the command line has %d bytes, and this kernel takes %d", n, p.bzImage.cmdline)
	}
	if i := strings.IndexByte(p.cmdline, 0); i >= 0 {
		return nil, fmt.Errorf("linuximage: the command line has a NUL at byte %d", i)
	}
	paramsSize := bootParamsSize + trampolineSize + roundUp(uint64(len(p.cmdline))+1, 8)
	for _, n := range nodes {
		paramsSize += n.size()
	}
	imaSize := roundUp(p.imaSize, pageSize)
	if p.imaSize > 1<<31 { // the node's len has 32 bits, and the kernel's variable for it a sign
		return nil, fmt.Errorf("linuximage: an IMA buffer of %d bytes is more than a setup_data node can hold", p.imaSize)
	}
	initrdSize := p.initrd.size
	if len(p.more) > 0 {
		initrdSize = roundUp(initrdSize, 4) + uint64(len(p.more))
	}

	var pieces []kexecseg.Piece
	var fill []func([]byte) error
	var sizes []uint64
	add := func(piece kexecseg.Piece, fileSize uint64, f func([]byte) error) int {
		pieces, sizes, fill = append(pieces, piece), append(sizes, fileSize), append(fill, f)
		return len(pieces) - 1
	}
	high := uint64(1) << 32
	if p.above4G {
		high = 0
	}
	kernelSize := p.size - p.setup
	kernel := add(kexecseg.Piece{Name: "kernel", Size: p.initSize, Align: p.align, Min: p.pref, Max: high, Low: true},
		kernelSize, func(buf []byte) error { return p.read(buf, p.setup) })
	if p.fixed {
		pieces[kernel].Max = p.pref + roundUp(p.initSize, pageSize)
	}
	// Above 4 GiB everything may lie, but needs no place there.
	piece := func(name string, size uint64) kexecseg.Piece {
		return kexecseg.Piece{Name: name, Size: size, Min: lowMemory, Max: p.bzImage.initrd + 1}
	}
	initrd, ima := -1, -1
	if initrdSize > 0 {
		initrd = add(piece("initrd", initrdSize), initrdSize, func(buf []byte) error {
			copy(buf[initrdSize-uint64(len(p.more)):], p.more)
			return p.initrd.read(buf[:p.initrd.size], 0)
		})
	}
	if imaSize > 0 {
		// The buffer's bytes are the caller's to write.
		ima = add(piece("IMA buffer", pageSize+imaSize), pageSize+imaSize, func([]byte) error { return nil })
	}
	params := add(piece("boot parameters", paramsSize), paramsSize, func([]byte) error { return nil })

	at, err := p.planner.Place(pieces...)
	if err != nil {
		return nil, err
	}
	img := &kexecseg.Image{Entry: at[params].Start + bootParamsSize, Flags: kexecseg.ArchX86_64}
	for i, r := range at {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		buf := make([]byte, sizes[i])
		if err := fill[i](buf); err != nil {
			return nil, fmt.Errorf("linuximage: %s: %w", pieces[i].Name, err)
		}
		img.Segments = append(img.Segments, kexecseg.Segment{Buf: buf, Phys: r})
	}

	bp := bootParams(img.Segments[params].Buf[:bootParamsSize:bootParamsSize])
	base := at[params].Start
	bp.setHeader(p.header)
	bp.setMachine(p.machine)
	bp.setE820(e820Table(p.memory))
	if initrd >= 0 {
		bp.setInitrd(at[initrd].Start, initrdSize)
	}
	buf := img.Segments[params].Buf[bootParamsSize:]
	off := base + bootParamsSize
	copy(buf, trampoline(base, at[kernel].Start+entry64))
	buf, off = buf[trampolineSize:], off+trampolineSize
	copy(buf, p.cmdline)
	bp.setCmdline(off)
	skip := roundUp(uint64(len(p.cmdline))+1, 8)
	buf, off = buf[skip:], off+skip
	next := uint64(0)
	if ima >= 0 {
		node := img.Segments[ima].Buf
		img.IMA = kexecseg.Range{Start: at[ima].Start + pageSize, Size: imaSize}
		putSetupData(node, 0, setupIMA, uint32(pageSize-setupHeader+imaSize))
		binary.LittleEndian.PutUint64(node[setupHeader:], img.IMA.Start)
		binary.LittleEndian.PutUint64(node[setupHeader+8:], img.IMA.Size)
		next = at[ima].Start
	}
	for _, n := range nodes {
		putSetupData(buf, next, n.kind, uint32(len(n.payload)))
		copy(buf[setupHeader:], n.payload)
		next = off
		buf, off = buf[n.size():], off+n.size()
	}
	bp.setSetupData(next)
	return img, img.Check()
}

// nodes returns the setup_data nodes that hold their payload. Those of the running
// kernel are not passed on: they describe its own boot.
func (p *x86Plan) nodes() ([]setupNode, error) {
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("linuximage: seed: %w", err)
	}
	nodes := []setupNode{{setupRNGSeed, seed}}
	if table := e820Table(p.memory); len(table) > e820Max*e820Size {
		nodes = append(nodes, setupNode{setupE820Ext, table[e820Max*e820Size:]})
	}
	return nodes, nil
}
