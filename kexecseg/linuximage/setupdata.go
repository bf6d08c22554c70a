package linuximage

import "encoding/binary"

// Types of setup_data nodes (arch/x86/include/uapi/asm/setup_data.h).
const (
	setupE820Ext = 1
	setupEFI     = 4
	setupIMA     = 8
	setupRNGSeed = 9
)

// setupHeader is the size of struct setup_data before its payload: u64 next, u32
// type, u32 len.
const setupHeader = 16

// setupNode is one node of the list that boot_params begins.
type setupNode struct {
	kind    uint32
	payload []byte
}

func (n setupNode) size() uint64 { return roundUp(setupHeader+uint64(len(n.payload)), 8) }

// putSetupData writes the header of a node.
func putSetupData(dst []byte, next uint64, kind, size uint32) {
	binary.LittleEndian.PutUint64(dst, next)
	binary.LittleEndian.PutUint32(dst[8:], kind)
	binary.LittleEndian.PutUint32(dst[12:], size)
}
