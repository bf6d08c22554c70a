//go:build !unix

package handover

import "os"

// tryLock locks nothing: the only machines here are those of handovertest.
func tryLock(*os.File) error { return nil }
