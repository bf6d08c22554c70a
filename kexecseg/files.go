package kexecseg

import (
	"context"
	"io"
)

// Files is what kexec_file_load(2) takes: the kernel lays them out itself.
type Files struct {
	Kernel  io.ReaderAt
	Initrd  io.ReaderAt // nil: none
	Cmdline string
}

// FileTarget is a Target that can also be loaded by kexec_file_load(2).
type FileTarget interface {
	Target

	// Files returns what to load. They stay readable as long as the target's
	// sources do.
	Files(context.Context) (*Files, error)
}
