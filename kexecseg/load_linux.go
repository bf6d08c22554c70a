package kexecseg

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kexecSegment is struct kexec_segment (include/uapi/linux/kexec.h).
type kexecSegment struct {
	buf   unsafe.Pointer
	bufsz uintptr
	mem   uintptr
	memsz uintptr
}

// Load hands the image to kexec_load(2), which copies it, in the place of an image
// that was loaded before. Check is called first, and memory that is not there is
// ErrNoMemory before the kernel could run out of it. What the kernel refuses is a
// RefusedError, and an image that was loaded before still is.
func Load(img *Image) error {
	if err := img.Check(); err != nil {
		return err
	}
	if err := checkAvailable(os.DirFS("/"), img); err != nil {
		return err
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	segs := make([]kexecSegment, len(img.Segments))
	for i, s := range img.Segments {
		if s.Phys.End() > uint64(^uintptr(0)) {
			return imageError("segment %d at %v is beyond this kernel's addresses", i, s.Phys)
		}
		segs[i] = kexecSegment{
			buf:   unsafe.Pointer(unsafe.SliceData(s.Buf)),
			bufsz: uintptr(len(s.Buf)),
			mem:   uintptr(s.Phys.Start),
			memsz: uintptr(s.Phys.Size),
		}
		if len(s.Buf) > 0 {
			pins.Pin(unsafe.SliceData(s.Buf))
		}
	}
	return kexecLoad(uintptr(img.Entry), segs, uintptr(img.Flags))
}

// Unload drops the loaded image. When there is none it does nothing.
func Unload() error { return kexecLoad(0, nil, 0) }

func kexecLoad(entry uintptr, segs []kexecSegment, flags uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, entry, uintptr(len(segs)),
		uintptr(unsafe.Pointer(unsafe.SliceData(segs))), flags, 0, 0)
	runtime.KeepAlive(segs)
	if errno != 0 {
		return Diagnose(os.DirFS("/"), opLoad, errno)
	}
	return nil
}

// Reboot jumps into the loaded image: reboot(2) with LINUX_REBOOT_CMD_KEXEC. It
// returns only when the kernel refused. File systems are the caller's to sync.
func Reboot() error {
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC)
	if err == nil {
		err = errors.New("reboot(2) returned")
	}
	return Diagnose(os.DirFS("/"), opReboot, err)
}
