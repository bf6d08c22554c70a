package handover

import (
	"io/fs"

	"github.com/imakexec/imakexec/kexecseg"
)

// System is the machine that a handover works on: its files and the three
// system calls that change what the next boot will be. Host gives the running
// one; handovertest.Machine is one for tests.
type System interface {
	// FS holds the files of the machine, rooted at "/". The live list must be
	// readable further after its end, as the kernel's is.
	FS() fs.FS

	// Load is kexec_load(2): it copies the image's segments, and replaces an
	// image that was loaded before. An error leaves the earlier image as it was.
	Load(*kexecseg.Image) error

	// Unload drops the loaded image; no image is not an error.
	Unload() error

	// Kexec jumps into the loaded image. On a real machine it returns only when
	// the kernel refused.
	Kexec() error
}
