package linuximage

import "encoding/binary"

// bootParams is struct boot_params, the zero page (arch/x86/include/uapi/asm/
// bootparam.h, Documentation/arch/x86/zero-page.rst).
type bootParams []byte

const (
	bootParamsSize = 4096
	screenInfoSize = 0x40
	offRSDP        = 0x70
	offExtInitrd   = 0xc0
	offExtInitrdSz = 0xc4
	offExtCmdline  = 0xc8
	offE820Count   = 0x1e8
	offLoader      = 0x210
	offInitrd      = 0x218
	offInitrdSize  = 0x21c
	offCmdline     = 0x228
	offSetupData   = 0x250
	offE820        = 0x2d0
	e820Max        = 128
	loaderUnknown  = 0xff
)

// setHeader copies the image's setup header and says who loads it. What a boot
// loader fills in is not the image's to say: a stray address in it would be an
// initrd, a command line or a setup_data list for the next kernel.
func (bp bootParams) setHeader(header []byte) {
	copy(bp[offSetupSects:], header)
	for _, off := range []int{offInitrd, offInitrdSize, offCmdline, offSetupData, offSetupData + 4} {
		binary.LittleEndian.PutUint32(bp[off:], 0)
	}
	bp[offLoader] = loaderUnknown
}

// setMachine tells what the firmware told this kernel.
func (bp bootParams) setMachine(m *machine) {
	copy(bp[:screenInfoSize], m.screen)
	binary.LittleEndian.PutUint64(bp[offRSDP:], m.rsdp)
}

// setE820 takes as many entries as have room; the others go into a SETUP_E820_EXT.
func (bp bootParams) setE820(table []byte) {
	n := min(len(table)/e820Size, e820Max)
	bp[offE820Count] = byte(n)
	copy(bp[offE820:], table[:n*e820Size])
}

func (bp bootParams) setInitrd(addr, size uint64) {
	bp.putSplit(offInitrd, offExtInitrd, addr)
	bp.putSplit(offInitrdSize, offExtInitrdSz, size)
}

func (bp bootParams) setCmdline(addr uint64) { bp.putSplit(offCmdline, offExtCmdline, addr) }

func (bp bootParams) setupData() uint64 { return binary.LittleEndian.Uint64(bp[offSetupData:]) }

func (bp bootParams) setSetupData(addr uint64) {
	binary.LittleEndian.PutUint64(bp[offSetupData:], addr)
}

// putSplit writes the halves of a 64-bit value where older protocols had 32.
func (bp bootParams) putSplit(low, high int, v uint64) {
	binary.LittleEndian.PutUint32(bp[low:], uint32(v))
	binary.LittleEndian.PutUint32(bp[high:], uint32(v>>32))
}
