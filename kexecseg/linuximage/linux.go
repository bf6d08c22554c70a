// Package linuximage plans a Linux kernel for kexec_load(2) by its boot protocol.
//
// On x86-64 that is a bzImage of protocol 2.12 or later, entered in 64-bit mode
// (Documentation/arch/x86/boot.rst), with the kexec buffer of the IMA measurement
// list inside one SETUP_IMA node. The next kernel's KASLR keeps clear of such a
// node; of a buffer that a node only points at it does not.
//
// On arm64 it is an Image, plain or compressed with gzip, with the running system's
// device tree rewritten for it (Documentation/arch/arm64/booting.rst).
package linuximage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/imakexec/imakexec/kexecseg"
)

// Linux is a kernel to kexec into; it is a kexecseg.FileTarget. Its readers are read
// by each Plan, from the start.
type Linux struct {
	Kernel  io.ReaderAt // bzImage, or arm64 Image
	Initrd  io.ReaderAt // nil: none
	Cmdline string      // without a NUL

	// Reserved is physical memory that the image must leave alone, beyond what
	// the memory map says.
	Reserved []kexecseg.Range

	// Purgatory puts code before the kernel that hashes the whole image once more,
	// without the IMA buffer, and halts with a word on the first serial port, or
	// the one that Cmdline has for a console, when a byte changed since Plan.
	// x86-64 only.
	Purgatory bool

	// Indirect puts the IMA buffer behind a small SETUP_IMA node of its own and
	// points at it with a SETUP_INDIRECT node, instead of inside the SETUP_IMA node.
	// Linux 5.5 is the first that keeps clear of such a buffer. x86-64 only.
	Indirect bool

	// AllowITS plans an image with an IMA buffer where Plan would give ErrITS, for
	// hardware that is known to survive. arm64 only.
	AllowITS bool
}

// Plan implements kexecseg.Target. Each source is read once, into its segment. The
// image's Release is nil.
//
// An image that is not what the boot protocol says is an ImageError with the
// offset; what has no place in memory is a *kexecseg.PlacementError. On arm64 machines
// that cannot hand a list over, an image with an IMA buffer is refused with ErrACPI or
// ErrITS; without one it is planned as any loader would.
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
	arm, err := readARMImage(kernel)
	if err != nil {
		return nil, err
	}
	total, err := totalRAM(root)
	if err != nil {
		return nil, err
	}
	planner := &kexecseg.Planner{Memory: req.Memory, Reserved: slices.Clone(l.Reserved), Total: total}
	if arm != nil {
		return l.planARM(ctx, req, root, arm, planner)
	}
	return l.planX86(ctx, req, root, kernel, planner)
}

func (l *Linux) planX86(ctx context.Context, req *kexecseg.Request, root fs.FS, kernel source, planner *kexecseg.Planner) (*kexecseg.Image, error) {
	bz, err := readBzImage(kernel)
	if err != nil {
		return nil, err
	}
	m, err := readMachine(root)
	if err != nil {
		return nil, err
	}
	if !bz.fiveLevel && hasFiveLevels(root) {
		return nil, imageError(offXLoadFlags, "the running kernel has five levels of page tables, and this one cannot start with them; boot the running one with no5lvl")
	}
	initrd, err := l.initrd(req, m.efi != nil)
	if err != nil {
		return nil, err
	}
	p := &x86Plan{
		kernel: bz, initrd: initrd, cmdline: l.Cmdline, purgatory: l.Purgatory, indirect: l.Indirect,
		imaSize: req.IMASize, memory: req.Memory, machine: m,
	}
	return p.image(ctx, planner)
}

func (l *Linux) planARM(ctx context.Context, req *kexecseg.Request, root fs.FS, kernel *armImage, planner *kexecseg.Planner) (*kexecseg.Image, error) {
	if l.Purgatory {
		return nil, errors.New("linuximage: there is no purgatory for arm64")
	}
	if err := refuseACPI(root, req.IMASize); err != nil {
		return nil, err
	}
	tree, err := readARMTree(root)
	if err != nil {
		return nil, err
	}
	if req.IMASize > 0 && !l.AllowITS && tree.hasITSWithoutUEFI() && !lpisOff(root) {
		return nil, fmt.Errorf("linuximage: %w", ErrITS)
	}
	initrd, err := l.initrd(req, false)
	if err != nil {
		return nil, err
	}
	p := &armPlan{kernel: kernel, initrd: initrd, cmdline: l.Cmdline, imaSize: req.IMASize, tree: tree}
	return p.image(ctx, planner)
}

// Files implements kexecseg.FileTarget.
func (l *Linux) Files(context.Context) (*kexecseg.Files, error) {
	return &kexecseg.Files{Kernel: l.Kernel, Initrd: l.Initrd, Cmdline: l.Cmdline}, nil
}

// initrd joins what the next kernel is to unpack. Where there must be one, it is an
// empty archive if there is none.
func (l *Linux) initrd(req *kexecseg.Request, must bool) (source, error) {
	j, err := JoinInitrds(l.Initrd, bytes.NewReader(req.Initrd))
	if err != nil {
		return source{}, err
	}
	s, err := newSource(j)
	if err == nil && s.size == 0 && must {
		// On EFI the next kernel would take the one that a table of an earlier boot
		// points at, where something else lies now.
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

// checkCmdline refuses a command line that the kernel would cut, at so many bytes or at
// a NUL.
func checkCmdline(cmdline string, most uint64) error {
	if n := uint64(len(cmdline)); n > most {
		return fmt.Errorf("linuximage: the command line has %d bytes, and this kernel takes %d", n, most)
	}
	if i := strings.IndexByte(cmdline, 0); i >= 0 {
		return fmt.Errorf("linuximage: the command line has a NUL at byte %d", i)
	}
	return nil
}
