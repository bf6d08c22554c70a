//go:build !linux

package kexecseg

func notHere(op string) error {
	return &RefusedError{Op: op, Reason: ErrNotSupported, Help: "kexec is a system call of Linux"}
}

// Load is kexec_load(2), which only Linux has.
func Load(*Image) error { return notHere(opLoad) }

// Unload drops the loaded image, which only Linux can have.
func Unload() error { return notHere(opLoad) }

// Reboot jumps into the loaded image, which only Linux can.
func Reboot() error { return notHere(opReboot) }
