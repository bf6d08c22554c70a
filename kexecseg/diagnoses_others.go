//go:build !linux

package kexecseg

import "io/fs"

// diagnoses is empty where errnos are not those of Linux.
func diagnoses() []diagnosis { return nil }

// CheckReboot finds nothing to refuse where nobody can reboot.
func CheckReboot(fs.FS) error { return nil }
