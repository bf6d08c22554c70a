package linuximage

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Offsets of an arm64 Image's header (Documentation/arch/arm64/booting.rst).
const (
	armTextOffset = 8
	armImageSize  = 16
	armFlags      = 24
	armMagic      = 0x38
	armHeaderSize = 64
	armBigEndian  = 1 << 0
)

// armImage is what the header says.
type armImage struct {
	source
	compressed bool   // with gzip
	textOffset uint64 // from a 2 MiB boundary
	imageSize  uint64 // memory that it takes, its bss included
	loaded     int    // bytes of it, once it is read
}

// isARMImage reports whether the bytes are the beginning of an Image.
func isARMImage(h []byte) bool {
	return len(h) >= armHeaderSize && string(h[armMagic:armMagic+4]) == "ARM\x64"
}

// readARMImage reads and judges the header; nil where the file is no Image, plain
// or compressed.
func readARMImage(s source) (*armImage, error) {
	h := make([]byte, min(s.size, armHeaderSize))
	if err := s.read(h, 0); err != nil {
		return nil, fmt.Errorf("linuximage: kernel: %w", err)
	}
	a := &armImage{source: s}
	if bytes.HasPrefix(h, []byte("\x1f\x8b")) {
		a.compressed = true
		z, err := a.unpack()
		if err != nil {
			return nil, err
		}
		h = make([]byte, armHeaderSize)
		if n, err := io.ReadFull(z, h); err != nil {
			return nil, imageError(uint64(n), "the compressed image ends inside its header, or is damaged: %v", err)
		}
	}
	if !isARMImage(h) {
		return nil, nil
	}
	le := binary.LittleEndian
	a.textOffset, a.imageSize = le.Uint64(h[armTextOffset:]), le.Uint64(h[armImageSize:])
	switch {
	case le.Uint64(h[armFlags:])&armBigEndian != 0:
		return nil, imageError(armFlags, "the kernel is big-endian, and this module's device trees are for little-endian ones")
	case a.imageSize == 0:
		return nil, imageError(armImageSize, "image_size is 0: Linux 3.17 is the oldest that tells it")
	case a.imageSize > armMostSize:
		return nil, imageError(armImageSize, "image_size is %#x, more than any machine's memory", a.imageSize)
	case a.textOffset%armAlign != 0 || a.textOffset >= armKernelAlign:
		return nil, imageError(armTextOffset, "text_offset is %#x", a.textOffset)
	case !a.compressed && a.size > a.imageSize:
		return nil, imageError(armImageSize, "image_size is %d, less than the %d bytes to load", a.imageSize, a.size)
	}
	return a, nil
}

// unpack reads a compressed image. What follows it in the file is padding.
func (a *armImage) unpack() (*gzip.Reader, error) {
	z, err := gzip.NewReader(bufio.NewReader(a.reader()))
	if err != nil {
		return nil, imageError(0, "gzip: %v", err)
	}
	z.Multistream(false)
	return z, nil
}

// armMostSize is the physical address space of arm64.
const armMostSize = 1 << 52

func (a *armImage) reader() io.Reader { return io.NewSectionReader(a, 0, math.MaxInt64) }

// load fills buf, which has room for image_size bytes, and returns how many the
// image has.
func (a *armImage) load(buf []byte) (int, error) {
	if !a.compressed {
		return int(a.size), a.read(buf[:a.size], 0)
	}
	z, err := a.unpack()
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(z, buf)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		// Of the image, when the checksum was right; of the file otherwise.
		if _, err := z.Read(make([]byte, 1)); err != io.EOF {
			return 0, imageError(uint64(n), "of the uncompressed image: %v", err)
		}
		return n, nil
	case err != nil:
		return 0, imageError(uint64(n), "of the uncompressed image: %v", err)
	}
	if _, err := z.Read(make([]byte, 1)); err != io.EOF {
		return 0, imageError(armImageSize, "image_size is %d, and more comes out of the file (%v)", a.imageSize, err)
	}
	return n, nil
}
