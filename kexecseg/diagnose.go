package kexecseg

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// diagnosis is what one errno of one call means. A nil file check always holds.
type diagnosis struct {
	op     string // "": any
	errno  syscall.Errno
	holds  func(fs.FS) bool
	reason error
	help   string
}

// diagnoses in the order in which the kernel checks (kernel/kexec.c:
// kexec_load_check, kernel/kexec_core.c: kexec_load_permitted, kernel/reboot.c).
// The first that holds is the answer.
func diagnoses() []diagnosis {
	return []diagnosis{
		{"", syscall.EPERM, lacksSysBoot, ErrPrivilege, "run as root, with CAP_SYS_BOOT in the initial user namespace"},
		{"kexec_load", syscall.EPERM, contentIs("proc/sys/kernel/kexec_load_disabled", "1"), ErrDisabled, "only a cold boot sets it back to 0"},
		{"kexec_load", syscall.EPERM, contentIs("proc/sys/kernel/kexec_load_limit_reboot", "0"), ErrLoadLimit, "every load counts, a refused one too; only a cold boot raises the limit"},
		{"kexec_load", syscall.EPERM, lockedDown, ErrLockdown, "kexec_file_load(2) with a signed kernel is what lockdown allows"},
		{"", syscall.EPERM, nil, ErrUnknown, "a security module or a seccomp filter may forbid it, or lockdown where securityfs is not mounted"},
		{"kexec_load", syscall.EACCES, nil, ErrPolicy, "kexec_file_load(2) with a signed kernel is what the policy allows"},
		{"", syscall.ENOSYS, nil, ErrNotSupported, "the kernel needs CONFIG_KEXEC=y, or a seccomp filter hides the call"},
		{"", syscall.EBUSY, nil, ErrBusy, "try again"},
		{"", syscall.ENOMEM, nil, ErrNoMemory, "kernel, initrd and buffer must fit into free memory beside the running system"},
		{"kexec_load", syscall.EADDRNOTAVAIL, nil, ErrAddress, "plan the image again with the machine's memory map"},
		{"kexec_load", syscall.EINVAL, nil, ErrImage, "segments may not overlap nor take more than half of RAM, and the image must be for this architecture"},
		{"kexec_load", syscall.EFAULT, nil, ErrImage, "a segment's bytes are no memory of this process"},
		{"reboot", syscall.EINVAL, lacksKexec, ErrNotSupported, "the kernel needs CONFIG_KEXEC or CONFIG_KEXEC_FILE"},
		{"reboot", syscall.EINVAL, nil, ErrNotLoaded, "load one first"},
	}
}

// Diagnose turns what a system call answered into a RefusedError. EPERM has many
// causes, told apart by CapEff, the sysctls and lockdown as the files under fsys,
// rooted at "/", show them. op is "kexec_load" or "reboot"; a nil error gives nil,
// one that is no errno a RefusedError with ErrUnknown.
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
		if (d.op == "" || d.op == op) && d.errno == errno && (d.holds == nil || d.holds(fsys)) {
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
