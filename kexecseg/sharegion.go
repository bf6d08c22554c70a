package kexecseg

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
)

// SHARegion is struct kexec_sha_region: Len bytes of physical memory from Start
// that a purgatory hashes before the jump.
type SHARegion struct{ Start, Len uint64 }

// maxSHARegions is the size of purgatory_sha_regions: KEXEC_SEGMENT_MAX.
const maxSHARegions = maxSegments

// SHARegions returns what a purgatory hashes, as kernel/kexec_file.c:
// kexec_calculate_store_digests does: the memory of each segment in order, its
// zero padding included, without the excluded ranges. The kernel excludes whole
// segments (purgatory itself, elfcorehdr, the IMA buffer); here a range may also
// be part of one, which is then cut into two regions. More than 16 regions are
// an error that wraps ErrImage.
func (img *Image) SHARegions(exclude ...Range) ([]SHARegion, error) {
	exclude = slices.Clone(exclude)
	slices.SortFunc(exclude, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	var regions []SHARegion
	for _, seg := range img.Segments {
		at, end := seg.Phys.Start, seg.Phys.End()
		for _, x := range exclude {
			if !x.Overlaps(Range{at, end - at}) {
				continue
			}
			if x.Start > at {
				regions = append(regions, SHARegion{at, x.Start - at})
			}
			at = x.End()
			if at >= end {
				break
			}
		}
		if at < end {
			regions = append(regions, SHARegion{at, end - at})
		}
	}
	if n := len(regions); n > maxSHARegions {
		return nil, imageError("%d regions to hash, and a purgatory has room for %d", n, maxSHARegions)
	}
	return regions, nil
}

// Digest returns the SHA-256 over the bytes of SHARegions as they will be in
// memory: what purgatory_sha256_digest holds. Of an image that is closed there is
// none: ErrClosed.
func (img *Image) Digest(exclude ...Range) ([32]byte, error) {
	var sum [32]byte
	if img.isClosed() {
		return sum, fmt.Errorf("kexecseg: digest: %w", ErrClosed)
	}
	regions, err := img.SHARegions(exclude...)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	zeros := make([]byte, 64<<10)
	for _, region := range regions {
		r := Range{region.Start, region.Len}
		i := slices.IndexFunc(img.Segments, func(s Segment) bool { return s.Phys.Contains(r) })
		seg := img.Segments[i]
		off, n := region.Start-seg.Phys.Start, region.Len
		if have := uint64(len(seg.Buf)); off < have {
			part := seg.Buf[off:min(off+n, have)]
			h.Write(part)
			n -= uint64(len(part))
		}
		for n > 0 {
			z := zeros[:min(n, uint64(len(zeros)))]
			h.Write(z)
			n -= uint64(len(z))
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}
