package kexecseg

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

// host is a machine's files that bear on a refusal.
func host(changes map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, content := range map[string]string{
		"proc/self/status":                        "Name:\tinit\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n",
		"proc/sys/kernel/kexec_load_disabled":     "0\n",
		"proc/sys/kernel/kexec_load_limit_reboot": "-1\n",
		"sys/kernel/security/lockdown":            "[none] integrity confidentiality\n",
		"sys/kernel/kexec_loaded":                 "0\n",
	} {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}
	for name, content := range changes {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
		if content == "" {
			delete(fsys, name)
		}
	}
	return fsys
}

func TestDiagnose(t *testing.T) {
	const status = "proc/self/status"
	noBoot := map[string]string{status: "CapEff:\t000001ffffbfffff\n"}
	disabled := map[string]string{"proc/sys/kernel/kexec_load_disabled": "1\n"}
	limit := map[string]string{"proc/sys/kernel/kexec_load_limit_reboot": "0\n"}
	for name, c := range map[string]struct {
		op    string
		errno syscall.Errno
		files map[string]string
		want  error
	}{
		"no capability":          {"kexec_load", syscall.EPERM, noBoot, ErrPrivilege},
		"no capability, reboot":  {"reboot", syscall.EPERM, noBoot, ErrPrivilege},
		"disabled":               {"kexec_load", syscall.EPERM, disabled, ErrDisabled},
		"limit":                  {"kexec_load", syscall.EPERM, limit, ErrLoadLimit},
		"lockdown and limit":     {"kexec_load", syscall.EPERM, map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n", "proc/sys/kernel/kexec_load_limit_reboot": "0\n"}, ErrLockdown},
		"integrity":              {"kexec_load", syscall.EPERM, map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, ErrLockdown},
		"confidentiality":        {"kexec_load", syscall.EPERM, map[string]string{"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"}, ErrLockdown},
		"nobody knows":           {"kexec_load", syscall.EPERM, nil, ErrUnknown},
		"limit, another call":    {"reboot", syscall.EPERM, limit, ErrUnknown},
		"no files at all":        {"kexec_load", syscall.EPERM, map[string]string{status: ""}, ErrUnknown},
		"odd status":             {"kexec_load", syscall.EPERM, map[string]string{status: "CapEff:\tzzz\n"}, ErrUnknown},
		"appraisal":              {"kexec_load", syscall.EACCES, nil, ErrPolicy},
		"no kexec here":          {"kexec_load", syscall.EOPNOTSUPP, nil, ErrNotSupported},
		"no kexec":               {"kexec_load", syscall.ENOSYS, nil, ErrNotSupported},
		"busy":                   {"kexec_load", syscall.EBUSY, nil, ErrBusy},
		"busy, reboot":           {"reboot", syscall.EBUSY, nil, ErrBusy},
		"address":                {"kexec_load", syscall.EADDRNOTAVAIL, nil, ErrAddress},
		"memory":                 {"kexec_load", syscall.ENOMEM, nil, ErrNoMemory},
		"invalid":                {"kexec_load", syscall.EINVAL, nil, ErrImage},
		"fault":                  {"kexec_load", syscall.EFAULT, nil, ErrImage},
		"disabled, files":        {"kexec_file_load", syscall.EPERM, disabled, ErrDisabled},
		"limit, files":           {"kexec_file_load", syscall.EPERM, limit, ErrLoadLimit},
		"lockdown, files":        {"kexec_file_load", syscall.EPERM, map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, ErrLockdown},
		"appraisal, files":       {"kexec_file_load", syscall.EACCES, nil, ErrPolicy},
		"not signed":             {"kexec_file_load", syscall.ENODATA, nil, ErrSignature},
		"unknown key":            {"kexec_file_load", syscall.ENOKEY, nil, ErrSignature},
		"key not trusted":        {"kexec_file_load", syscall.EKEYREJECTED, nil, ErrSignature},
		"signature damaged":      {"kexec_file_load", syscall.EBADMSG, nil, ErrSignature},
		"no kernel":              {"kexec_file_load", syscall.ENOEXEC, nil, ErrImage},
		"no hole":                {"kexec_file_load", syscall.EADDRNOTAVAIL, nil, ErrAddress},
		"too large":              {"kexec_file_load", syscall.EFBIG, nil, ErrImage},
		"key expired":            {"kexec_file_load", syscall.EKEYEXPIRED, nil, ErrSignature},
		"key revoked":            {"kexec_file_load", syscall.EKEYREVOKED, nil, ErrSignature},
		"not open for reading":   {"kexec_file_load", syscall.EBADF, nil, ErrFile},
		"open for writing":       {"kexec_file_load", syscall.ETXTBSY, nil, ErrFile},
		"cut meanwhile":          {"kexec_file_load", syscall.EIO, nil, ErrFile},
		"no memory of ours":      {"kexec_file_load", syscall.EFAULT, nil, ErrImage},
		"no such call":           {"kexec_file_load", syscall.ENOSYS, nil, ErrNotSupported},
		"nothing loaded":         {"reboot", syscall.EINVAL, nil, ErrNotLoaded},
		"kernel without kexec":   {"reboot", syscall.EINVAL, map[string]string{"sys/kernel/kexec_loaded": ""}, ErrNotSupported},
		"an errno nobody thinks": {"kexec_load", syscall.EIO, nil, ErrUnknown},
	} {
		err := Diagnose(host(c.files), c.op, c.errno)
		var e *RefusedError
		if !errors.Is(err, c.want) || !errors.Is(err, c.errno) || !errors.As(err, &e) || e.Op != c.op {
			t.Errorf("%s: %v, want %v", name, err, c.want)
			continue
		}
		if s := err.Error(); !strings.Contains(s, c.op) || !strings.Contains(s, c.errno.Error()) || !strings.Contains(s, e.Help) {
			t.Errorf("%s: %q says too little", name, s)
		}
		if e.Help == "" && c.want != ErrUnknown {
			t.Errorf("%s: %v offers no help", name, err)
		}
	}
	for inode, want := range map[uint64]error{0xEFFFFFFC: ErrNotLoaded, 4026532000: ErrNamespace} {
		fsys := host(nil)
		fsys["proc/self/ns/pid"] = &fstest.MapFile{Sys: &syscall.Stat_t{Ino: inode}}
		if err := Diagnose(fsys, "reboot", syscall.EINVAL); !errors.Is(err, want) {
			t.Errorf("in PID namespace %d: %v", inode, err)
		}
		if err := CheckReboot(fsys); errors.Is(err, ErrNamespace) != (want == ErrNamespace) || err != nil && want != ErrNamespace {
			t.Errorf("asked before, in PID namespace %d: %v", inode, err)
		}
	}
	if err := CheckReboot(host(noBoot)); !errors.Is(err, ErrPrivilege) {
		t.Errorf("asked before, without the capability: %v", err)
	}
	if err := Diagnose(host(nil), "reboot", nil); err != nil {
		t.Errorf("no error: %v", err)
	}
	odd := errors.New("odd")
	if err := Diagnose(host(nil), "reboot", odd); !errors.Is(err, odd) || !errors.Is(err, ErrUnknown) {
		t.Errorf("no errno: %v", err)
	}
	if err := (&RefusedError{Op: "kexec_load", Reason: ErrLockdown}); !errors.Is(err, ErrLockdown) || errors.Is(err, ErrBusy) || strings.Contains(err.Error(), "nil") {
		t.Errorf("without errno: %v", err)
	}
}
