//go:build !unix

package events

import "io/fs"

// owner is not known here.
func owner(fs.FileInfo) (uint32, bool) { return 0, false }
