package kexecseg

import (
	"io/fs"
	"syscall"
)

// diagnoses in the order in which the kernel checks (kernel/kexec.c:
// kexec_load_check; kernel/kexec_core.c: kexec_load_permitted; kernel/kexec_file.c:
// kimage_validate_signature; kernel/reboot.c). The first that holds is the answer; lockdown
// comes before the limit, which a load that it forbids uses up.
func diagnoses() []diagnosis {
	const loads = opLoad + " " + opFileLoad
	return []diagnosis{
		{"", syscall.EPERM, lacksSysBoot, ErrPrivilege, "run as root, with CAP_SYS_BOOT in the initial user namespace"},
		{loads, syscall.EPERM, contentIs("proc/sys/kernel/kexec_load_disabled", "1"), ErrDisabled, "only a cold boot sets it back to 0"},
		{opLoad, syscall.EPERM, lockedDown, ErrLockdown, "kexec_file_load(2) with a signed kernel is what lockdown allows"},
		{opFileLoad, syscall.EPERM, lockedDown, ErrLockdown, "lockdown wants a kernel that is signed with a key it trusts"},
		{loads, syscall.EPERM, contentIs("proc/sys/kernel/kexec_load_limit_reboot", "0"), ErrLoadLimit, "every load counts, a refused one too; only a cold boot raises the limit"},
		{"", syscall.EPERM, nil, ErrUnknown, "a security module or a seccomp filter may forbid it, or lockdown where securityfs is not mounted"},
		{opLoad, syscall.EACCES, nil, ErrPolicy, "kexec_file_load(2) with a signed kernel is what the policy allows"},
		{opFileLoad, syscall.EACCES, nil, ErrPolicy, "the policy wants an IMA signature on kernel and initrd"},
		{opFileLoad, syscall.ENODATA, nil, ErrSignature, "the kernel image is not signed"},
		{opFileLoad, syscall.ENOKEY, nil, ErrSignature, "the key that signed the kernel image is in none of the kernel's keyrings"},
		{opFileLoad, syscall.EKEYREJECTED, nil, ErrSignature, "the kernel image's signature is wrong, or its key is not trusted"},
		{opFileLoad, syscall.EBADMSG, nil, ErrSignature, "the kernel image's signature is damaged"},
		{opFileLoad, syscall.ELIBBAD, nil, ErrSignature, "the kernel image's signature is damaged"},
		{opFileLoad, syscall.ENOPKG, nil, ErrSignature, "the running kernel lacks an algorithm of the signature"},
		{opFileLoad, syscall.EKEYEXPIRED, nil, ErrSignature, "the key that signed the kernel image has expired"},
		{opFileLoad, syscall.EKEYREVOKED, nil, ErrSignature, "the key that signed the kernel image is revoked"},
		{opFileLoad, syscall.EBADF, nil, ErrFile, "kernel and initrd must be open for reading"},
		{opFileLoad, syscall.ETXTBSY, nil, ErrFile, "somebody has it open for writing"},
		{opFileLoad, syscall.EIO, nil, ErrFile, "it became shorter meanwhile, or its device fails"},
		{opFileLoad, syscall.EFAULT, nil, ErrImage, "the command line is no memory of this process"},
		{"", syscall.ENOSYS, nil, ErrNotSupported, "the kernel needs CONFIG_KEXEC=y (CONFIG_KEXEC_FILE=y for kexec_file_load), or a seccomp filter hides the call"},
		{loads, syscall.EOPNOTSUPP, nil, ErrNotSupported, "this machine cannot kexec: its hardware, or a confidential guest, forbids it"},
		{"", syscall.EBUSY, nil, ErrBusy, "try again"},
		{"", syscall.ENOMEM, nil, ErrNoMemory, "kernel, initrd and buffer must fit into free memory beside the running system"},
		{opLoad, syscall.EADDRNOTAVAIL, nil, ErrAddress, "plan the image again with the machine's memory map"},
		{opFileLoad, syscall.EADDRNOTAVAIL, nil, ErrAddress, "the kernel found no hole in memory that is large enough"},
		{opLoad, syscall.EINVAL, nil, ErrImage, "segments may not overlap nor take more than half of RAM, and the image must be for this architecture"},
		{opLoad, syscall.EFAULT, nil, ErrImage, "a segment's bytes are no memory of this process"},
		{opFileLoad, syscall.ENOEXEC, nil, ErrImage, "the file is no kernel image of this architecture"},
		{opFileLoad, syscall.EINVAL, nil, ErrImage, "the kernel image is damaged or no regular file, or the command line too long"},
		{opFileLoad, syscall.EFBIG, nil, ErrImage, "a file is larger than the kernel reads"},
		{opReboot, syscall.EINVAL, inPIDNamespace, ErrNamespace, "jump from a process of the first PID namespace, the host's"},
		{opReboot, syscall.EINVAL, lacksKexec, ErrNotSupported, "the kernel needs CONFIG_KEXEC or CONFIG_KEXEC_FILE"},
		{opReboot, syscall.EINVAL, nil, ErrNotLoaded, "load one first"},
	}
}

// CheckReboot returns what Reboot would be refused with for what this process is, as
// the files under fsys, rooted at "/", show it; nil where they show nothing. An image
// does not have to be loaded.
func CheckReboot(fsys fs.FS) error {
	switch {
	case inPIDNamespace(fsys):
		return Diagnose(fsys, opReboot, syscall.EINVAL)
	case lacksSysBoot(fsys):
		return Diagnose(fsys, opReboot, syscall.EPERM)
	}
	return nil
}

// inPIDNamespace reports whether this process is in another PID namespace than the
// first, whose number is fixed (include/linux/proc_ns.h: PROC_PID_INIT_INO). There
// reboot(2) ends the namespace, and kexec is none of the commands that it knows
// (kernel/pid_namespace.c: reboot_pid_ns).
func inPIDNamespace(fsys fs.FS) bool {
	const first = 0xEFFFFFFC
	info, err := fs.Stat(fsys, "proc/self/ns/pid")
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Ino != first
}
