package linuximage

import (
	"encoding/binary"

	"github.com/imakexec/imakexec/kexecseg"
)

// e820Size is the size of struct boot_e820_entry: u64 addr, u64 size, u32 type.
const e820Size = 20

// e820Type gives the number of a type (arch/x86/include/asm/e820/types.h); 0 for
// what is no memory of the firmware's: a device in /proc/iomem.
func e820Type(t kexecseg.MemoryType) uint32 {
	switch t {
	case kexecseg.RAM, kexecseg.Kept, kexecseg.CrashKernel:
		return 1
	case kexecseg.ACPITables:
		return 3
	case kexecseg.ACPINVS:
		return 4
	case kexecseg.Unusable:
		return 5
	case kexecseg.Persistent:
		return 7
	case kexecseg.LegacyPmem:
		return 12
	case kexecseg.SoftReserve:
		return 0xefffffff
	}
	switch t {
	case kexecseg.Reserved, "reserved", "Unknown E820 type":
		return 2
	}
	return 0
}

// e820Table encodes the memory map for the next kernel. What this one only keeps
// out of its own use is RAM again.
func e820Table(m kexecseg.MemoryMap) []byte {
	var ranges []kexecseg.MemoryRange
	for _, r := range m {
		if e820Type(r.Type) == 0 {
			continue
		}
		if r.Type.IsRAM() {
			r.Type = kexecseg.RAM
		}
		if n := len(ranges); n > 0 && ranges[n-1].Type == r.Type && ranges[n-1].End() == r.Start {
			ranges[n-1].Size += r.Size
			continue
		}
		ranges = append(ranges, r)
	}
	var b []byte
	for _, r := range ranges {
		b = binary.LittleEndian.AppendUint64(b, r.Start)
		b = binary.LittleEndian.AppendUint64(b, r.Size)
		b = binary.LittleEndian.AppendUint32(b, e820Type(r.Type))
	}
	return b
}
