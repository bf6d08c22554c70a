//go:build !386 && !mips && !mipsle && !mips64 && !mips64le

package kexecseg

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// LoadFiles hands kernel and initrd to kexec_file_load(2), in the place of an image
// that was loaded before. A reader that is an *os.File is given to the kernel as
// it is, so that IMA and signature checks see the file; another is copied into one
// in memory (memfd_create(2)). What the kernel refuses is a RefusedError, and an
// image that was loaded before still is.
func LoadFiles(f *Files) error {
	if strings.IndexByte(f.Cmdline, 0) >= 0 {
		return &RefusedError{Op: opFileLoad, Reason: ErrImage, Help: "the command line has a NUL in it"}
	}
	kernel, err := fileOf("kernel", f.Kernel)
	if err != nil {
		return err
	}
	defer kernel.release()
	flags, initrd := unix.KEXEC_FILE_NO_INITRAMFS, heldFile{fd: -1}
	if f.Initrd != nil {
		flags = 0
		if initrd, err = fileOf("initrd", f.Initrd); err != nil {
			return err
		}
		defer initrd.release()
	}
	err = unix.KexecFileLoad(kernel.fd, initrd.fd, f.Cmdline, flags)
	runtime.KeepAlive(f) // a file that is collected is closed
	return Diagnose(os.DirFS("/"), opFileLoad, err)
}

// UnloadFiles drops the loaded image by kexec_file_load(2), where kexec_load(2) is
// not to be had. When there is none it does nothing.
func UnloadFiles() error {
	return Diagnose(os.DirFS("/"), opFileLoad, unix.KexecFileLoad(-1, -1, "", unix.KEXEC_FILE_UNLOAD))
}

// heldFile is a descriptor for one system call.
type heldFile struct {
	fd    int
	close func() error // nil: the caller's
}

func (h heldFile) release() {
	if h.close != nil {
		h.close()
	}
}

func fileOf(name string, r io.ReaderAt) (heldFile, error) {
	if f, ok := r.(*os.File); ok {
		return heldFile{fd: int(f.Fd())}, nil
	}
	if r == nil {
		return heldFile{}, fmt.Errorf("kexecseg: %w: no %s", ErrImage, name)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return heldFile{}, fmt.Errorf("kexecseg: copy the %s: %w", name, os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, io.NewSectionReader(r, 0, math.MaxInt64)); err != nil {
		f.Close()
		return heldFile{}, fmt.Errorf("kexecseg: copy the %s: %w", name, err)
	}
	return heldFile{fd: fd, close: f.Close}, nil
}
