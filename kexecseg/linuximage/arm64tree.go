package linuximage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/fdt"
)

// ErrACPI means that an arm64 machine booted by ACPI, where no kernel restores a
// measurement list: arch/arm64/kernel/setup.c unflattens the device tree, which tells
// where the buffer is, only without ACPI.
var ErrACPI = errors.New("this machine booted by ACPI, and no arm64 kernel restores a measurement list then; " +
	"acpi=off, where the firmware has a device tree, or a list inside the initrd would help")

// ErrITS means that the interrupt controller, a GICv3 with an Interrupt Translation
// Service, goes on writing LPI tables into the running kernel's memory, and that the
// next kernel does not learn where they are: only UEFI tells it
// (drivers/irqchip/irq-gic-v3-its.c: its_cpu_init_lpis, gic_reserve_range). A kernel in
// QEMU's virt machine dies of it.
var ErrITS = errors.New("this machine has a GICv3 with ITS and booted without UEFI, and the next kernel would not keep clear of its LPI tables; " +
	"a boot through UEFI would help, or irqchip.gicv3_nolpi=1 on the running kernel's command line; Linux.AllowITS plans all the same")

const (
	propArgs        = "bootargs"
	propInitrdStart = "linux,initrd-start"
	propInitrdEnd   = "linux,initrd-end"
	propIMA         = "linux,ima-kexec-buffer"
	propKASLR       = "kaslr-seed"
	propRNG         = "rng-seed"
	propUEFI        = "linux,uefi-system-table"
	kaslrSeedSize   = 8
	rngSeedSize     = 128
	armCmdlineMax   = 2047 // COMMAND_LINE_SIZE of arch/arm64/include/uapi/asm/setup.h, less the NUL
)

// staleProperties of /chosen describe this boot, or an earlier kexec, and must not
// be passed on. Seeds read as zero once they are used.
func staleProperties() []string {
	return []string{
		propArgs, propInitrdStart, propInitrdEnd, propIMA, propKASLR, propRNG,
		"linux,elfcorehdr", "linux,usable-memory-range", "linux,kho-fdt", "linux,kho-scratch",
	}
}

// armTree is the running kernel's device tree on its way to the next.
type armTree struct {
	*fdt.Tree
	chosen                  *fdt.Node
	addressCells, sizeCells int
}

// readARMTree reads the tree that this kernel was given and takes out what is stale.
func readARMTree(root fs.FS) (*armTree, error) {
	b, err := fs.ReadFile(root, "sys/firmware/fdt")
	if err != nil {
		return nil, fmt.Errorf("linuximage: read device tree: %w", err)
	}
	tree, err := fdt.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("linuximage: /sys/firmware/fdt: %w", err)
	}
	t := &armTree{Tree: tree, chosen: tree.Root.Child("chosen")}
	if t.addressCells, t.sizeCells, err = tree.Root.Cells(); err != nil {
		return nil, fmt.Errorf("linuximage: /sys/firmware/fdt: %w", err)
	}
	if t.chosen == nil {
		t.chosen = &fdt.Node{Name: "chosen"}
		tree.Root.Children = append(tree.Root.Children, t.chosen)
	}
	stale := t.handedOver()
	t.Reserved = slices.DeleteFunc(t.Reserved, func(r fdt.Reservation) bool { return slices.Contains(stale, r) })
	for _, name := range staleProperties() {
		t.chosen.Delete(name)
	}
	return t, nil
}

// handedOver returns the reservations of an earlier handover: its buffer and its
// initrd, exactly, and the initrd also in whole pages.
func (t *armTree) handedOver() []fdt.Reservation {
	var out []fdt.Reservation
	if v, ok := t.chosen.Get(propIMA); ok {
		if regs, err := fdt.Reg(v, t.addressCells, t.sizeCells); err == nil {
			out = append(out, regs...)
		}
	}
	start, end := t.address(propInitrdStart), t.address(propInitrdEnd)
	if start < end {
		out = append(out, fdt.Reservation{Address: start, Size: end - start},
			fdt.Reservation{Address: start, Size: roundUp(end-start, pageSize)})
	}
	return out
}

// address reads a property of one address, 4 or 8 bytes; 0 if there is none.
func (t *armTree) address(name string) uint64 {
	v, ok := t.chosen.Get(name)
	if !ok || len(v) != 4 && len(v) != 8 {
		return 0
	}
	regs, err := fdt.Reg(v, len(v)/4, 0)
	if err != nil || len(regs) != 1 {
		return 0
	}
	return regs[0].Address
}

// lpisOff reports whether the running kernel was told to use no LPIs, and so has no
// tables for them (drivers/irqchip/irq-gic-v3.c: gicv3_nolpi_cfg).
func lpisOff(root fs.FS) bool {
	b, err := fs.ReadFile(root, "proc/cmdline")
	if err != nil {
		return false
	}
	off := false
	for _, arg := range strings.Fields(string(b)) {
		if value, ok := strings.CutPrefix(arg, "irqchip.gicv3_nolpi="); ok {
			off = value == "on" || value != "" && strings.Contains("1yYtT", value[:1])
		}
	}
	return off
}

// hasITSWithoutUEFI reports whether there is an ITS in use and no UEFI.
func (t *armTree) hasITSWithoutUEFI() bool {
	_, uefi := t.chosen.Get(propUEFI)
	return !uefi && hasITS(t.Root)
}

func hasITS(n *fdt.Node) bool {
	compatible, _ := n.Get("compatible")
	status, given := n.Get("status")
	if given && string(status) != "okay\x00" && string(status) != "ok\x00" {
		return false
	}
	return slices.Contains(strings.Split(string(compatible), "\x00"), "arm,gic-v3-its") ||
		slices.ContainsFunc(n.Children, hasITS)
}

// reservedRanges are the reservations that stay.
func (t *armTree) reservedRanges() []kexecseg.Range {
	var out []kexecseg.Range
	for _, r := range t.Reserved {
		out = append(out, kexecseg.Range{Start: r.Address, Size: r.Size})
	}
	return out
}

// setSeeds gives the next kernel fresh randomness; without it KASLR would be off.
func (t *armTree) setSeeds() error {
	for name, size := range map[string]int{propKASLR: kaslrSeedSize, propRNG: rngSeedSize} {
		seed := make([]byte, size)
		if _, err := rand.Read(seed); err != nil {
			return fmt.Errorf("linuximage: seed: %w", err)
		}
		t.chosen.Set(name, seed)
	}
	return nil
}

// setCmdline sets bootargs; a NUL in it would end it early.
func (t *armTree) setCmdline(cmdline string) error {
	if err := checkCmdline(cmdline, armCmdlineMax); err != nil {
		return err
	}
	t.chosen.Set(propArgs, append([]byte(cmdline), 0))
	return nil
}

// setInitrd tells where the initrd is, and keeps it from being overwritten.
func (t *armTree) setInitrd(r kexecseg.Range) {
	start, _ := fdt.AppendCells(nil, r.Start, 2)
	end, _ := fdt.AppendCells(nil, r.End(), 2)
	t.chosen.Set(propInitrdStart, start)
	t.chosen.Set(propInitrdEnd, end)
	t.Reserved = append(t.Reserved, fdt.Reservation{Address: r.Start, Size: r.Size})
}

// setIMA tells where the buffer is, and keeps it from being overwritten: at the top
// of RAM it would be, every time.
func (t *armTree) setIMA(r kexecseg.Range) error {
	v, err := fdt.AppendCells(nil, r.Start, t.addressCells)
	if err == nil {
		v, err = fdt.AppendCells(v, r.Size, t.sizeCells)
	}
	if err != nil {
		return fmt.Errorf("linuximage: device tree: the IMA buffer at %v: %w", r, err)
	}
	t.chosen.Set(propIMA, v)
	t.Reserved = append(t.Reserved, fdt.Reservation{Address: r.Start, Size: r.Size})
	return nil
}
