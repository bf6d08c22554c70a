// Package linuximage plans a Linux kernel for kexec_load(2) by its boot protocol.
//
// On x86-64 that is a bzImage of protocol 2.12 or later, entered in 64-bit mode
// (Documentation/arch/x86/boot.rst), with the kexec buffer of the IMA measurement
// list inside one SETUP_IMA node. The next kernel's KASLR keeps clear of such a
// node; of a buffer that a node only points at it does not.
package linuximage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/imakexec/imakexec/kexecseg"
)

// Linux is a kernel to kexec into; it is a kexecseg.FileTarget. Its readers are read
// by each Plan, from the start.
type Linux struct {
	Kernel  io.ReaderAt // bzImage
	Initrd  io.ReaderAt // nil: none
	Cmdline string      // without a NUL

	// Reserved is physical memory that the image must leave alone, beyond what
	// the memory map says.
	Reserved []kexecseg.Range

	// Purgatory puts code before the kernel that hashes the whole image once more,
	// without the IMA buffer, and halts with a word on the first serial port, or
	// the one that Cmdline has for a console, when a byte changed since Plan.
	Purgatory bool
}

// Plan implements kexecseg.Target. Each source is read once, into its segment. The
// image's Release is nil.
//
// An image that is not what the boot protocol says is an ImageError with the
// offset; what has no place in memory is a *kexecseg.PlacementError.
func (l *Linux) Plan(ctx context.Context, req *kexecseg.Request) (*kexecseg.Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root := req.Root
	if root == nil {
		root = os.DirFS("/")
	}
	kernel, err := newSource(l.Kernel)
	if err != nil {
		return nil, fmt.Errorf("linuximage: kernel: %w", err)
	}
	bz, err := readBzImage(kernel)
	if err != nil {
		return nil, err
	}
	m, err := readMachine(root)
	if err != nil {
		return nil, err
	}
	initrd, err := l.initrd(req, m)
	if err != nil {
		return nil, err
	}
	total, err := totalRAM(root)
	if err != nil {
		return nil, err
	}
	p := &x86Plan{
		kernel: bz, initrd: initrd, cmdline: l.Cmdline, purgatory: l.Purgatory,
		imaSize: req.IMASize, memory: req.Memory, machine: m,
	}
	return p.image(ctx, &kexecseg.Planner{Memory: req.Memory, Reserved: l.Reserved, Total: total})
}

// Files implements kexecseg.FileTarget.
func (l *Linux) Files(context.Context) (*kexecseg.Files, error) {
	return &kexecseg.Files{Kernel: l.Kernel, Initrd: l.Initrd, Cmdline: l.Cmdline}, nil
}

// initrd joins what the next kernel is to unpack.
func (l *Linux) initrd(req *kexecseg.Request, m *machine) (source, error) {
	j, err := JoinInitrds(l.Initrd, bytes.NewReader(req.Initrd))
	if err != nil {
		return source{}, err
	}
	s, err := newSource(j)
	if err == nil && s.size == 0 && m.efi != nil {
		// Without an initrd the next kernel takes the one that an EFI table of an
		// earlier boot points at, where something else lies now.
		return newSource(emptyArchive())
	}
	return s, err
}

// totalRAM reads what the kernel counts as RAM; 0 where it does not say.
func totalRAM(root fs.FS) (uint64, error) {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, nil
	}
	var kib uint64
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kib); err != nil {
		return 0, fmt.Errorf("linuximage: /proc/meminfo: %w", err)
	}
	return kib << 10, nil
}
