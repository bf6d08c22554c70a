package linuximage

import (
	"encoding/binary"

	"github.com/imakexec/imakexec/kexecseg"
)

// Types of setup_data nodes (arch/x86/include/uapi/asm/setup_data.h).
const (
	setupE820Ext = 1
	setupEFI     = 4
	setupIMA     = 8
	setupRNGSeed = 9

	// setupIndirect marks a node that points at what its type is about, and the type
	// of that (struct setup_indirect).
	setupIndirect = 1 << 31
)

// setupHeader is the size of struct setup_data before its payload: u64 next, u32
// type, u32 len.
const setupHeader = 16

// imaNodeSize is the size of a SETUP_IMA node with nothing in it but its payload.
const imaNodeSize = setupHeader + 16

// setupNode is one node of the list that boot_params begins.
type setupNode struct {
	kind    uint32
	payload []byte
}

func (n setupNode) size() uint64 { return roundUp(setupHeader+uint64(len(n.payload)), 8) }

// indirectNode is a SETUP_INDIRECT node for a buffer that a SETUP_IMA node points
// at: it tells KASLR, which follows no SETUP_IMA, to keep clear of it.
func indirectNode(buffer kexecseg.Range) setupNode {
	b := binary.LittleEndian.AppendUint32(nil, setupIndirect|setupIMA)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, buffer.Size)
	return setupNode{setupIndirect, binary.LittleEndian.AppendUint64(b, buffer.Start)}
}

// appendSetupHeader appends the header of a node.
func appendSetupHeader(b []byte, next uint64, kind, size uint32) []byte {
	b = binary.LittleEndian.AppendUint64(b, next)
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint32(b, size)
}

// putIMANode writes the header and payload (struct ima_setup_data) of a SETUP_IMA
// node whose length covers the rest of buf, where the buffer is.
func putIMANode(buf []byte, buffer kexecseg.Range) {
	b := appendSetupHeader(buf[:0], 0, setupIMA, uint32(len(buf)-setupHeader))
	b = binary.LittleEndian.AppendUint64(b, buffer.Start)
	binary.LittleEndian.AppendUint64(b, buffer.Size)
}
