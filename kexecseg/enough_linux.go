package kexecseg

import (
	"fmt"
	"io/fs"
	"strings"
)

// checkAvailable refuses an image for which the kernel has no memory. The kernel
// itself does not: it allocates the pages of all segments, padding included, and
// kills processes, or panics, when it has run out of them. An image that was loaded
// before stays until the new one is complete, and is not available. Where
// /proc/meminfo does not say what is, nothing is refused.
func checkAvailable(fsys fs.FS, img *Image) error {
	b, err := fs.ReadFile(fsys, "proc/meminfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n != 1 {
			continue
		}
		var need uint64
		for _, s := range img.Segments {
			need += s.Phys.Size
		}
		if need > kib<<10 {
			return &RefusedError{Op: opLoad, Reason: ErrNoMemory,
				Help: fmt.Sprintf("the image takes %d MiB and %d MiB are available; unload an earlier image, or free memory", need>>20, kib>>10)}
		}
	}
	return nil
}
