package linuximage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat means that a file is not the image that its boot protocol describes.
var ErrFormat = errors.New("not a kernel image that can be booted this way")

// ImageError says what is wrong with a kernel image. It wraps ErrFormat.
type ImageError struct {
	Offset uint64 // in the file
	Reason string
}

func (e *ImageError) Error() string {
	return fmt.Sprintf("linuximage: kernel: at offset %#x: %s", e.Offset, e.Reason)
}

func (e *ImageError) Unwrap() error { return ErrFormat }

func imageError(offset uint64, format string, args ...any) error {
	return &ImageError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// Offsets of the setup header, in the file and in boot_params alike
// (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
const (
	offSetupSects   = 0x1f1
	offSyssize      = 0x1f4
	offBootFlag     = 0x1fe
	offJump         = 0x201
	offHeader       = 0x202
	offVersion      = 0x206
	offInitrdMax    = 0x22c
	offAlignment    = 0x230
	offRelocatable  = 0x234
	offXLoadFlags   = 0x236
	offCmdlineSize  = 0x238
	offPayload      = 0x248
	offPayloadSize  = 0x24c
	offPrefAddress  = 0x258
	offInitSize     = 0x260
	headerMax       = 0x290 // edd_mbr_sig_buffer comes next in boot_params
	bzImageMinSize  = 0x1000
	kernel64        = 1 << 0 // XLF_KERNEL_64
	loadedAbove4G   = 1 << 1 // XLF_CAN_BE_LOADED_ABOVE_4G
	fiveLevel       = 1 << 5 // XLF_5LEVEL
	protocolMin     = 0x20c
	entry64         = 0x200 // of the protected-mode code
	defaultSetupLen = 4     // setup_sects 0 means this
)

// bzImage is what the setup header says.
type bzImage struct {
	source
	header    []byte // bytes 0x1f1 to the header's end
	setup     uint64 // bytes before the protected-mode code
	align     uint64
	pref      uint64
	initSize  uint64
	initrdMax uint64 // last address that the initrd may have
	cmdline   uint64 // longest command line, without the NUL
	above4G   bool
	fiveLevel bool // can be entered in 5-level paging
	fixed     bool // not relocatable
}

// readBzImage reads and judges the setup header.
func readBzImage(s source) (*bzImage, error) {
	h := make([]byte, min(s.size, bzImageMinSize))
	if err := s.read(h, 0); err != nil {
		return nil, fmt.Errorf("linuximage: kernel: %w", err)
	}
	if err := otherFormat(h); err != nil {
		return nil, err
	}
	if len(h) < bzImageMinSize {
		return nil, imageError(s.size, "the file ends before a setup header could")
	}
	le := binary.LittleEndian
	if v := le.Uint16(h[offBootFlag:]); v != 0xaa55 {
		return nil, imageError(offBootFlag, "boot_flag is %#x, not 0xaa55: no bzImage, or a damaged one", v)
	}
	if string(h[offHeader:offHeader+4]) != "HdrS" {
		return nil, imageError(offHeader, "the magic is %q, not \"HdrS\": no bzImage, or a damaged one", h[offHeader:offHeader+4])
	}
	if v := le.Uint16(h[offVersion:]); v < protocolMin {
		return nil, imageError(offVersion, "boot protocol %d.%02d; 2.12 (Linux 3.8) is the oldest with a 64-bit entry", v>>8, v&0xff)
	}
	flags := le.Uint16(h[offXLoadFlags:])
	if flags&kernel64 == 0 {
		return nil, imageError(offXLoadFlags, "xloadflags are %#x: the kernel has no 64-bit entry", flags)
	}
	b := &bzImage{
		source:    s,
		align:     uint64(le.Uint32(h[offAlignment:])),
		pref:      le.Uint64(h[offPrefAddress:]),
		initSize:  uint64(le.Uint32(h[offInitSize:])),
		initrdMax: uint64(le.Uint32(h[offInitrdMax:])),
		cmdline:   uint64(le.Uint32(h[offCmdlineSize:])),
		above4G:   flags&loadedAbove4G != 0,
		fiveLevel: flags&fiveLevel != 0,
		fixed:     h[offRelocatable] == 0,
	}
	end := offHeader + uint64(h[offJump])
	if end < offInitSize+4 || end > headerMax {
		return nil, imageError(offJump, "the setup header ends at %#x, not between %#x and %#x", end, offInitSize+4, headerMax)
	}
	b.header = h[offSetupSects:end]
	sects := uint64(h[offSetupSects])
	if sects == 0 {
		sects = defaultSetupLen
	}
	b.setup = (sects + 1) * 512
	size := uint64(le.Uint32(h[offSyssize:])) * 16
	switch {
	case size <= entry64:
		return nil, imageError(offSyssize, "syssize says %d bytes of code", size)
	case b.setup+size > s.size:
		return nil, imageError(s.size, "the file ends %d bytes too early: setup_sects and syssize say %d", b.setup+size-s.size, b.setup+size)
	case s.size-b.setup > b.initSize:
		return nil, imageError(offInitSize, "init_size is %d, less than the %d bytes to load", b.initSize, s.size-b.setup)
	}
	payload, payloadSize := uint64(le.Uint32(h[offPayload:])), uint64(le.Uint32(h[offPayloadSize:]))
	if payload+payloadSize > s.size-b.setup {
		return nil, imageError(offPayload, "the payload of %d bytes at %#x passes the file's end", payloadSize, b.setup+payload)
	}
	if b.align < pageSize || b.align&(b.align-1) != 0 || b.align > 1<<30 {
		return nil, imageError(offAlignment, "kernel_alignment is %#x", b.align)
	}
	if b.pref%pageSize != 0 || b.pref < lowMemory || b.pref > 1<<46 {
		return nil, imageError(offPrefAddress, "pref_address is %#x", b.pref)
	}
	return b, nil
}

// otherFormat names what the file is instead, where its magic tells.
func otherFormat(h []byte) error {
	for _, f := range []struct{ magic, name string }{
		{"\x1f\x8b", "a gzip file"},
		{"\xfd7zXZ\x00", "an xz file"},
		{"\x28\xb5\x2f\xfd", "a zstd file"},
		{"BZh", "a bzip2 file"},
		{"\x04\x22\x4d\x18", "an lz4 file"},
		{"\x02\x21\x4c\x18", "an lz4 file"},
		{"\x89LZO", "an lzo file"},
		{"MZ\x00\x00zimg", "an EFI zboot image; the kernel in it is what can be booted"},
		{"\x7fELF", "an ELF file, such as vmlinux; the bzImage is what can be booted"},
	} {
		if bytes.HasPrefix(h, []byte(f.magic)) {
			return imageError(0, "this is %s, not a bzImage", f.name)
		}
	}
	return nil
}
