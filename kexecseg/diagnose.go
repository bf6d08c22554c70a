package kexecseg

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The system calls, as RefusedError.Op names them.
const (
	opLoad     = "kexec_load"
	opFileLoad = "kexec_file_load"
	opReboot   = "reboot"
)

// diagnosis is what one errno of some calls means. A nil file check always holds.
type diagnosis struct {
	ops    string // that it is about, separated by spaces; "": all
	errno  syscall.Errno
	holds  func(fs.FS) bool
	reason error
	help   string
}

// Diagnose turns what a system call answered into a RefusedError. EPERM has many
// causes, told apart by CapEff, the sysctls and lockdown as the files under fsys,
// rooted at "/", show them. op is "kexec_load", "kexec_file_load" or "reboot". A nil
// error gives nil; one that is no errno of Linux a RefusedError with ErrUnknown.
func Diagnose(fsys fs.FS, op string, err error) error {
	if err == nil {
		return nil
	}
	refused := &RefusedError{Op: op, Reason: ErrUnknown, Errno: err}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return refused
	}
	for _, d := range diagnoses() {
		concerns := d.ops == "" || slices.Contains(strings.Fields(d.ops), op)
		if concerns && d.errno == errno && (d.holds == nil || d.holds(fsys)) {
			refused.Reason, refused.Help = d.reason, d.help
			break
		}
	}
	return refused
}

func contentIs(name, want string) func(fs.FS) bool {
	return func(fsys fs.FS) bool {
		b, err := fs.ReadFile(fsys, name)
		return err == nil && strings.TrimSpace(string(b)) == want
	}
}

// lacksSysBoot looks for CAP_SYS_BOOT, number 22, in the effective set.
func lacksSysBoot(fsys fs.FS) bool {
	const capSysBoot = 22
	b, err := fs.ReadFile(fsys, "proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && n&(1<<capSysBoot) == 0
		}
	}
	return false
}

// lockedDown reads which of the three levels is in brackets.
func lockedDown(fsys fs.FS) bool {
	b, err := fs.ReadFile(fsys, "sys/kernel/security/lockdown")
	return err == nil && strings.Contains(string(b), "[") && !strings.Contains(string(b), "[none]")
}

func lacksKexec(fsys fs.FS) bool {
	_, err := Loaded(fsys)
	return errors.Is(err, ErrNotSupported)
}
