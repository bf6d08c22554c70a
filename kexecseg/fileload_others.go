//go:build !linux || 386 || mips || mipsle || mips64 || mips64le

package kexecseg

func noFileLoad() error {
	return &RefusedError{Op: opFileLoad, Reason: ErrNotSupported, Help: "Linux has this system call on few architectures"}
}

// LoadFiles is kexec_file_load(2), which this system does not have.
func LoadFiles(*Files) error { return noFileLoad() }

// UnloadFiles is kexec_file_load(2), which this system does not have.
func UnloadFiles() error { return noFileLoad() }
