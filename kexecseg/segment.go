package kexecseg

// Segment is one piece of an image: struct kexec_segment
// (include/uapi/linux/kexec.h). The kernel copies Buf to the start of Phys and
// zeroes the rest of it, so len(Buf), its bufsz, is at most Phys.Size, its memsz.
type Segment struct {
	Buf  []byte
	Phys Range
}

// maxSegments is KEXEC_SEGMENT_MAX.
const maxSegments = 16
