package linuximage

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/imakexec/imakexec/kexecseg"
)

const (
	armAlign       = 64 << 10 // the largest page that an arm64 kernel may have
	armKernelAlign = 2 << 20
	armTreeMax     = 2 << 20 // of a device tree
	armInitrdSpan  = 32 << 30
)

// armPlan is what one Plan for arm64 works on. The segments it makes are the kernel;
// the initrd; the IMA buffer; the device tree; and a trampoline.
type armPlan struct {
	kernel  *armImage
	initrd  source
	cmdline string
	imaSize uint64
	tree    *armTree
}

// refuseACPI refuses a handover of a list where no kernel would restore it.
func refuseACPI(root fs.FS, imaSize uint64) error {
	if imaSize == 0 {
		return nil
	}
	_, err := fs.Stat(root, "sys/firmware/acpi/tables")
	switch {
	case err == nil:
		return fmt.Errorf("linuximage: %w", ErrACPI)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("linuximage: %w", err)
}

func (p *armPlan) image(ctx context.Context, planner *kexecseg.Planner) (*kexecseg.Image, error) {
	if err := p.tree.setCmdline(p.cmdline); err != nil {
		return nil, err
	}
	if err := p.tree.setSeeds(); err != nil {
		return nil, err
	}
	planner.Reserved = append(planner.Reserved, p.tree.reservedRanges()...)

	kernel := p.kernel.part()
	var initrd, ima *part
	if p.initrd.size > 0 {
		initrd = armPart("initrd", p.initrd.size)
		initrd.fill = func(buf []byte) error { return p.initrd.read(buf, 0) }
	}
	if p.imaSize > 0 {
		if p.imaSize > 1<<40 {
			return nil, fmt.Errorf("linuximage: an IMA buffer of %d bytes", p.imaSize)
		}
		ima = armPart("IMA buffer", roundUp(p.imaSize, pageSize))
	}
	tree := armPart("device tree", armTreeMax)
	tree.Align = armTreeMax
	jump := armPart("trampoline", armTrampolineSize)
	img := &kexecseg.Image{Flags: kexecseg.ArchARM64}
	var first error
	for {
		// The initrd must lie in a window that begins at the kernel's gibibyte. Where it
		// has no place in it the kernel goes to the next one.
		at, err := planner.Place(kernel.Piece)
		if err != nil {
			return nil, cmp.Or(first, err)
		}
		kernel.Min, kernel.Max = at[0].Start-kernel.Offset, at[0].End()
		window := kexecseg.Range{Start: at[0].Start &^ (1<<30 - 1), Size: armInitrdSpan}
		if initrd != nil {
			initrd.Min, initrd.Max = window.Start, window.End()
		}
		img.Segments, err = assemble(ctx, planner, kernel, initrd, ima, tree, jump)
		if err == nil {
			break
		}
		if !initrd.hasNoPlace(err) {
			return nil, err
		}
		first = cmp.Or(first, err)
		kernel.Min, kernel.Max = window.Start+1<<30, 0
	}

	if initrd != nil {
		p.tree.setInitrd(kexecseg.Range{Start: initrd.Phys.Start, Size: initrd.bytes})
	}
	if ima != nil {
		img.IMA = kexecseg.Range{Start: ima.Phys.Start, Size: ima.bytes}
		if err := p.tree.setIMA(img.IMA); err != nil {
			return nil, err
		}
	}
	b, err := p.tree.AppendBinary(tree.Buf[:0])
	if err != nil {
		return nil, fmt.Errorf("linuximage: %w", err)
	}
	if len(b) > armTreeMax {
		return nil, fmt.Errorf("linuximage: the device tree has %d bytes, and a kernel takes %d", len(b), armTreeMax)
	}
	copy(jump.Buf, armTrampoline(kernel.Phys.Start, tree.Phys.Start))
	img.Entry = jump.Phys.Start
	p.kernel.trim(img, kernel)
	return img, img.Check()
}

// armPart is one in whole pages of any kernel.
func armPart(name string, size uint64) *part {
	return &part{
		Piece: kexecseg.Piece{Name: name, Size: roundUp(size, armAlign), Align: armAlign},
		bytes: size,
	}
}

// part is the image with its bss.
func (a *armImage) part() *part {
	p := &part{
		Piece: kexecseg.Piece{
			Name: "kernel", Size: roundUp(a.imageSize, armAlign),
			Align: armKernelAlign, Offset: a.textOffset, Low: true,
		},
		bytes: a.size,
	}
	if a.compressed {
		p.bytes = a.imageSize // how much there is shows when it is unpacked
	}
	p.fill = func(buf []byte) (err error) {
		a.loaded, err = a.load(buf)
		return err
	}
	return p
}

// trim leaves out of the kernel's segment the bytes that turned out not to be there.
func (a *armImage) trim(img *kexecseg.Image, kernel *part) {
	for i := range img.Segments {
		if img.Segments[i].Phys == kernel.Phys {
			img.Segments[i].Buf = img.Segments[i].Buf[:a.loaded]
		}
	}
}

const armTrampolineSize = 40

// armTrampoline is the code that the running kernel jumps to, with the MMU off: it
// enters the next one with the address of the device tree in x0.
//
//	ldr x4, entry
//	ldr x0, tree
//	mov x1, xzr
//	mov x2, xzr
//	mov x3, xzr
//	br  x4
//	entry: .quad
//	tree:  .quad
func armTrampoline(entry, tree uint64) []byte {
	var b []byte
	for _, w := range []uint32{0x580000c4, 0x580000e0, 0xaa1f03e1, 0xaa1f03e2, 0xaa1f03e3, 0xd61f0080} {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	b = binary.LittleEndian.AppendUint64(b, entry)
	return binary.LittleEndian.AppendUint64(b, tree)
}
