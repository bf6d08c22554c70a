package linuximage

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/imakexec/imakexec/kexecseg"
)

// What a boot loader fills in is not taken from the image.
func TestHeaderLeavesLoaderFieldsEmpty(t *testing.T) {
	header := bytes.Repeat([]byte{0xee}, 0x268-offSetupSects)
	bp := make(bootParams, bootParamsSize)
	bp.setHeader(header)
	for _, off := range []int{offInitrd, offInitrdSize, offCmdline, offSetupData, offSetupData + 4} {
		if v := binary.LittleEndian.Uint32(bp[off:]); v != 0 {
			t.Errorf("%#x holds %#x of the image", off, v)
		}
	}
	if bp[offSetupSects] != 0xee || bp[0x260] != 0xee {
		t.Error("the rest of the header was not copied")
	}
}

func TestAddressesAbove4G(t *testing.T) {
	bp := make(bootParams, bootParamsSize)
	bp.setInitrd(0x1_2345_6000, 0x2_0000_1000)
	bp.setCmdline(0x3_0000_2000)
	for off, want := range map[int]uint32{
		offInitrd: 0x2345_6000, offExtInitrd: 1, offInitrdSize: 0x1000, offExtInitrdSz: 2, offCmdline: 0x2000, offExtCmdline: 3,
	} {
		if v := binary.LittleEndian.Uint32(bp[off:]); v != want {
			t.Errorf("%#x holds %#x, want %#x", off, v, want)
		}
	}
}

// Without a firmware map /proc/iomem has devices too, which are no memory.
func TestE820HasNoDevices(t *testing.T) {
	table := e820Table(kexecseg.MemoryMap{
		{Range: kexecseg.Range{Start: 0x1000, Size: 0x1000}, Type: kexecseg.RAM},
		{Range: kexecseg.Range{Start: 0x2000, Size: 0x1000}, Type: "Reserved"},
		{Range: kexecseg.Range{Start: 0x4000, Size: 0x1000}, Type: "PCI Bus 0000:00"},
		{Range: kexecseg.Range{Start: 0x6000, Size: 0x1000}, Type: "IOAPIC 0"},
	})
	if len(table) != 2*e820Size {
		t.Fatalf("%d entries, want RAM and the reserved range", len(table)/e820Size)
	}
	if first, second := table[16], table[e820Size+16]; first != 1 || second != 2 {
		t.Errorf("types %d and %d, want 1 and 2", first, second)
	}
}
