package kexecseg

import (
	"errors"
	"fmt"
)

// Reasons why the kernel refuses, as found in a RefusedError.
var (
	ErrLockdown     = errors.New("kernel lockdown forbids it")
	ErrDisabled     = errors.New("sysctl kernel.kexec_load_disabled is set")
	ErrLoadLimit    = errors.New("sysctl kernel.kexec_load_limit_reboot is used up")
	ErrPolicy       = errors.New("the IMA appraisal policy forbids an unsigned image")
	ErrSignature    = errors.New("the kernel image's signature is missing or not trusted")
	ErrPrivilege    = errors.New("capability CAP_SYS_BOOT is missing")
	ErrNotSupported = errors.New("not supported by this kernel")
	ErrBusy         = errors.New("another kexec call is running")
	ErrAddress      = errors.New("a segment's address is none that the kernel can use")
	ErrNoMemory     = errors.New("the kernel has not enough free memory")
	ErrNotLoaded    = errors.New("no image is loaded")
	ErrNamespace    = errors.New("a process of this PID namespace can reboot nothing but the namespace")
	ErrFile         = errors.New("the kernel cannot read the file")
	ErrCrashImage   = errors.New("crash images are not handled")
	ErrUnknown      = errors.New("the kernel does not say why")
)

// RefusedError is a system call that the kernel refused.
type RefusedError struct {
	Op     string // "kexec_load", "reboot", ...
	Reason error  // one of the errors above
	Errno  error  // what the system call returned; may be nil
	Help   string // what would help; may be empty
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("kexecseg: %s: %v", e.Op, e.Reason)
	if e.Errno != nil {
		s += fmt.Sprintf(" (%v)", e.Errno)
	}
	if e.Help != "" {
		s += "; " + e.Help
	}
	return s
}

// Unwrap returns the reason and the errno.
func (e *RefusedError) Unwrap() []error {
	errs := []error{e.Reason}
	if e.Errno != nil {
		errs = append(errs, e.Errno)
	}
	return errs
}
