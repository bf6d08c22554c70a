package kexecseg

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Loaded reports whether an image is loaded that reboot(KEXEC) would start. The
// file system is rooted at "/". A kernel without kexec gives ErrNotSupported.
func Loaded(fsys fs.FS) (bool, error) { return readFlag(fsys, "sys/kernel/kexec_loaded") }

// CrashLoaded reports whether an image is loaded that a panic would start.
func CrashLoaded(fsys fs.FS) (bool, error) { return readFlag(fsys, "sys/kernel/kexec_crash_loaded") }

func readFlag(fsys fs.FS, name string) (bool, error) {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		if _, sys := fs.Stat(fsys, "sys/kernel"); errors.Is(err, fs.ErrNotExist) && sys == nil {
			err = fmt.Errorf("%w: %w", ErrNotSupported, err)
		}
		return false, fmt.Errorf("kexecseg: %w", err)
	}
	switch s := strings.TrimSpace(string(b)); s {
	case "0":
		return false, nil
	case "1":
		return true, nil
	default:
		return false, fmt.Errorf("kexecseg: /%s holds %q, neither 0 nor 1", name, s)
	}
}
