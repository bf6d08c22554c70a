package kexecseg

import (
	"context"
	"io/fs"
)

// Target makes an image to kexec into. A bootloader may bring its own.
type Target interface {
	// Plan lays out an image. It may be called again with another request, as
	// long as the target's sources can be read.
	Plan(context.Context, *Request) (*Image, error)
}

// Request is what a Target needs to know.
type Request struct {
	Memory MemoryMap

	// IMASize is the size of the IMA buffer in bytes; the image's buffer is that
	// rounded up to whole pages. 0: the image carries no list.
	IMASize uint64

	// Initrd is appended to the target's initrd: another cpio archive.
	Initrd []byte

	// Root holds the running system's files, rooted at "/": what firmware and
	// kernel tell about the machine. Nil: the files of this one.
	Root fs.FS
}
