package linuximage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// machine is what the firmware told the running kernel and the next must know.
type machine struct {
	screen []byte // struct screen_info; nil: unknown
	rsdp   uint64 // address of the ACPI root pointer; 0: found by a scan below 1 MiB
	efi    *efi   // nil: none
}

// readMachine reads the running kernel's boot_params and, on EFI, the addresses
// of the system tables.
func readMachine(root fs.FS) (*machine, error) {
	m := &machine{}
	bp, err := fs.ReadFile(root, "sys/kernel/boot_params/data")
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("linuximage: read boot_params: %w", err)
	case len(bp) != bootParamsSize:
		return nil, fmt.Errorf("linuximage: /sys/kernel/boot_params/data has %d bytes, not %d", len(bp), bootParamsSize)
	default:
		m.screen = bp[:screenInfoSize]
		m.rsdp = binary.LittleEndian.Uint64(bp[offRSDP:])
	}
	tables, err := readSystab(root)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"ACPI20", "ACPI"} {
		if addr := tables[name]; addr != 0 {
			m.rsdp = addr
			break
		}
	}
	m.efi, err = readEFI(root, bp, tables)
	return m, err
}

// hasFiveLevels reports whether the running kernel has five levels of page tables, as
// what it jumps to then has: by a flag that a kernel takes away where it does not use
// them (arch/x86/kernel/cpu/common.c: early_identify_cpu).
func hasFiveLevels(root fs.FS) bool {
	b, err := fs.ReadFile(root, "proc/cpuinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if flags, ok := strings.CutPrefix(line, "flags"); ok {
			return slices.Contains(strings.Fields(flags), "la57")
		}
	}
	return false
}

// readSystab reads the addresses of EFI's tables by name (drivers/firmware/efi/
// efi.c: systab_show); empty on a machine without EFI. A line that is no name and
// address is none of those that are asked for.
func readSystab(root fs.FS) (map[string]uint64, error) {
	const name = "sys/firmware/efi/systab"
	b, err := fs.ReadFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("linuximage: %w", err)
	}
	tables := make(map[string]uint64)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if addr, err := strconv.ParseUint(value, 0, 64); err == nil {
			tables[name] = addr
		}
	}
	return tables, nil
}
