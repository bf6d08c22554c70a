//go:build !linux

package kexecseg

// diagnoses is empty where errnos are not those of Linux.
func diagnoses() []diagnosis { return nil }
