package linuximage

import (
	"encoding/binary"
	"testing"
)

// The indirect layout: a small SETUP_IMA node, and a node that tells KASLR where
// the buffer is.
func TestIndirect(t *testing.T) {
	l, root := testLinux(), testRoot(t, biosMachine)
	l.Indirect = true
	img := plan(t, l, root, 5000)
	le := binary.LittleEndian
	ima, ind := img.nodes[8], img.nodes[1<<31]
	if len(ima.payload) != 16 || le.Uint64(ima.payload) != img.IMA.Start || le.Uint64(ima.payload[8:]) != 8192 {
		t.Errorf("SETUP_IMA %x, IMA %v", ima.payload, img.IMA)
	}
	if len(ind.payload) != 24 || le.Uint32(ind.payload) != 1<<31|8 || le.Uint64(ind.payload[8:]) != 8192 || le.Uint64(ind.payload[16:]) != img.IMA.Start {
		t.Errorf("SETUP_INDIRECT %x, IMA %v", ind.payload, img.IMA)
	}
	if img := plan(t, l, root, 0); len(img.nodes) != 1 {
		t.Errorf("without a list: nodes %x", img.nodes)
	}
}
