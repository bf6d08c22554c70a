package handovertest

import (
	"context"
	"errors"

	"github.com/imakexec/imakexec/kexecseg"
)

// Target plans an image for a Machine: a segment that stands for a kernel, and
// one for the measurement list.
type Target struct {
	// Err, when not nil, is what Plan answers.
	Err error

	plans int
}

// Plans returns how many times Plan was called.
func (t *Target) Plans() int { return t.plans }

// Plan implements kexecseg.Target.
func (t *Target) Plan(_ context.Context, req *kexecseg.Request) (*kexecseg.Image, error) {
	t.plans++
	if t.Err != nil {
		return nil, t.Err
	}
	const page, slack = 4096, 64 << 10
	size := (req.IMASize + page - 1) &^ (page - 1)
	var ram kexecseg.Range
	for _, r := range req.Memory {
		if r.Type == kexecseg.RAM && r.Size > ram.Size {
			ram = r.Range
		}
	}
	if size < req.IMASize || size > ram.Size || ram.Size-size < slack+page {
		return nil, errors.New("handovertest: the machine has no room for the list")
	}
	kernel := kexecseg.Segment{Buf: make([]byte, page), Phys: kexecseg.Range{Start: ram.Start, Size: page}}
	img := &kexecseg.Image{Entry: ram.Start, Segments: []kexecseg.Segment{kernel}}
	if size > 0 {
		img.IMA = kexecseg.Range{Start: ram.End() - slack - size, Size: size}
		img.Segments = append(img.Segments, kexecseg.Segment{Buf: make([]byte, size), Phys: img.IMA})
	}
	return img, nil
}
