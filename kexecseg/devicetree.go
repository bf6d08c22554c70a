package kexecseg

import (
	"fmt"
	"strings"

	"github.com/imakexec/imakexec/kexecseg/fdt"
)

// DeviceTreeMemory returns the memory map that a device tree describes: the reg of
// each memory node, and as Kept what the reservation block and /reserved-memory take
// out of it. A tree without a memory node, as UEFI hands over, is an error: there
// the map is the firmware's, which /proc/iomem shows.
func DeviceTreeMemory(tree *fdt.Tree) (MemoryMap, error) {
	var m MemoryMap
	address, size, err := tree.Root.Cells()
	if err != nil {
		return nil, fmt.Errorf("kexecseg: device tree: %w", err)
	}
	for _, n := range tree.Root.Children {
		if kind, _ := n.Get("device_type"); string(kind) != "memory\x00" {
			continue
		}
		if status, ok := n.Get("status"); ok && string(status) != "okay\x00" && string(status) != "ok\x00" {
			continue
		}
		reg, ok := n.Get("linux,usable-memory")
		if !ok {
			reg, _ = n.Get("reg")
		}
		ranges, err := fdt.Reg(reg, address, size)
		if err != nil {
			return nil, fmt.Errorf("kexecseg: device tree: %s: %w", n.Name, err)
		}
		for _, r := range ranges {
			m = append(m, MemoryRange{Range{r.Address, r.Size}, RAM})
		}
	}
	if len(m) == 0 {
		return nil, fmt.Errorf("kexecseg: the device tree has no memory node")
	}
	if m, err = m.normalize(); err != nil {
		return nil, err
	}
	reserved := tree.Reserved
	if n := tree.Root.Child("reserved-memory"); n != nil {
		address, size, err := n.Cells()
		if err != nil {
			return nil, fmt.Errorf("kexecseg: device tree: reserved-memory: %w", err)
		}
		for _, c := range n.Children {
			reg, _ := c.Get("reg") // none: allocated at boot, and shown in /proc/iomem
			ranges, err := fdt.Reg(reg, address, size)
			if err != nil {
				return nil, fmt.Errorf("kexecseg: device tree: %s: %w", strings.ToValidUTF8(c.Name, "?"), err)
			}
			reserved = append(reserved[:len(reserved):len(reserved)], ranges...)
		}
	}
	for _, r := range reserved {
		m = m.cut(MemoryRange{Range{r.Address, r.Size}, Kept})
	}
	return m.normalize()
}
