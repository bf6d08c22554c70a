package linuximage

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/purgatory"
)

// With a purgatory the image is entered there, and what it hashes is all of the
// image but itself and the IMA buffer, as it lies in memory.
func TestPurgatory(t *testing.T) {
	root := testRoot(t, biosMachine)
	l := testLinux()
	l.Purgatory = true
	l.Cmdline = "console=tty0 console=ttyS1,115200n8"
	img, err := tryPlan(l, root, 3<<12, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(img.Segments, func(s kexecseg.Segment) bool { return s.Phys.Start == img.Entry })
	if i < 0 {
		t.Fatal("the entry is not the start of a segment")
	}
	code := img.Segments[i]

	var hashed []byte
	var regions []kexecseg.SHARegion
	var params, kernel uint64
	for j, s := range img.Segments {
		mem := make([]byte, s.Phys.Size)
		copy(mem, s.Buf)
		r := kexecseg.SHARegion{Start: s.Phys.Start, Len: s.Phys.Size}
		switch {
		case j == i:
			continue
		case s.Phys.Contains(img.IMA):
			r.Len = img.IMA.Start - r.Start
		case s.Phys.Start == 0x1000000:
			kernel = s.Phys.Start
		case bytes.Contains(s.Buf, []byte(l.Cmdline)):
			params = s.Phys.Start
		}
		hashed = append(hashed, mem[:r.Len]...)
		regions = append(regions, r)
	}
	want, err := purgatory.Code(img.Entry, &purgatory.Params{
		Entry: kernel + 0x200, Argument: params, Regions: regions, Digest: sha256.Sum256(hashed), Port: 0x2f8,
	})
	if err != nil || !bytes.Equal(code.Buf, want) {
		t.Errorf("another purgatory than expected, %v", err)
	}
}

func TestSerialPort(t *testing.T) {
	for cmdline, want := range map[string]uint16{
		"": 0x3f8, "quiet": 0x3f8, "console=tty0": 0x3f8, "console=ttyS0": 0x3f8, "console=ttyS1": 0x2f8,
		"console=ttyS2,115200": 0x3e8, "console=ttyS3,9600n8 quiet": 0x2e8, "console=ttyS1 console=ttyS0": 0x3f8,
		"console=ttyS9": 0x3f8, "console=ttyS10": 0x3f8, "console=ttyS": 0x3f8,
	} {
		if got := serialPort(cmdline); got != want {
			t.Errorf("%q: %#x, want %#x", cmdline, got, want)
		}
	}
}
