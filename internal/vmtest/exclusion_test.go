//go:build linux

package vmtest

import (
	"testing"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
)

// exclusion computes the digest that a purgatory verifies over an image that leaves
// out the list's buffer, refills the buffer, and jumps into the image.
var exclusion = Scenario{Name: "exclusion", Boots: []func(*Guest){
	func(g *Guest) {
		img := plan(g, target(g), 1<<16)
		digest := func() [32]byte {
			d, err := img.Digest(img.IMA)
			g.Check(err, "digest")
			return d
		}
		first := digest()
		whole, err := img.Digest()
		g.Check(err, "digest of everything")

		buffer, err := img.Map(img.IMA)
		g.Check(err, "map")
		if _, err := img.Map(img.IMA); err == nil {
			g.Errorf("a second mapping of the buffer")
		}
		_, err = imalog.Dump(buffer.Bytes(), imalog.Records(g.List(), nil))
		g.Check(err, "dump")
		g.Check(buffer.Unmap(), "unmap")
		if buffer.Bytes() != nil {
			g.Errorf("the mapping can be used after Unmap")
		}
		if digest() != first {
			g.Errorf("the digest covers the buffer that it excludes")
		}
		if now, err := img.Digest(); err != nil || now == whole {
			g.Errorf("the digest of everything missed that the buffer changed (%v)", err)
		}
		// Another byte, in turn of each segment, is not missed.
		for i, seg := range img.Segments {
			r := kexecseg.Range{Start: seg.Phys.Start, Size: 1}
			if img.IMA.Contains(r) {
				r.Start += img.IMA.Size // past the buffer, if the segment goes on
			}
			if !seg.Phys.Contains(r) || r.Start-seg.Phys.Start >= uint64(len(seg.Buf)) {
				continue
			}
			m, err := img.Map(r)
			g.Check(err, "map one byte")
			m.Bytes()[0] ^= 1
			if digest() == first {
				g.Errorf("a byte of segment %d changed and the digest did not", i)
			}
			m.Bytes()[0] ^= 1
			g.Check(m.Unmap(), "unmap")
		}
		if digest() != first {
			g.Errorf("the image is not what it was")
		}
		g.Check(kexecseg.Load(img), "load")
		jump(g)
	},
	arrivesWhole,
}}

func TestDigestExclusion(t *testing.T) {
	Judge(t, Run(t, Config{Scenario: "exclusion", Kernels: []string{"6.12", "7.x"}}).Capture("end"))
}
