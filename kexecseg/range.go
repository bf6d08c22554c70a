package kexecseg

import "fmt"

// pageSize is the unit in which kexec places segments. A machine with larger pages
// would need a larger one; x86-64 and Debian's arm64 use 4 KiB.
const pageSize = 4096

// Range is a range of physical addresses, in bytes.
type Range struct{ Start, Size uint64 }

// End returns the first address after the range. A range that reaches the end of
// the address space ends at 2^64-1.
func (r Range) End() uint64 {
	if r.wraps() {
		return ^uint64(0)
	}
	return r.Start + r.Size
}

// wraps reports whether the range leaves the 64-bit address space.
func (r Range) wraps() bool { return r.Start+r.Size < r.Start }

// Contains reports whether all of s, which is not empty, lies in r.
func (r Range) Contains(s Range) bool {
	return s.Size > 0 && s.Start >= r.Start && s.End() <= r.End()
}

// Overlaps reports whether the ranges share a byte.
func (r Range) Overlaps(s Range) bool {
	return r.Size > 0 && s.Size > 0 && r.Start < s.End() && s.Start < r.End()
}

// String returns the range as the kernel writes one, with its last address:
// "0x100000-0x3ffcefff".
func (r Range) String() string {
	if r.Size == 0 {
		return fmt.Sprintf("%#x-(empty)", r.Start)
	}
	return fmt.Sprintf("%#x-%#x", r.Start, r.End()-1)
}
