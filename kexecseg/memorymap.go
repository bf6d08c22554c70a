package kexecseg

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// MemoryType says what a range of physical memory is, in the words of
// /sys/firmware/memmap (arch/x86/kernel/e820.c: e820_type_to_string). Other words
// than those below are kept as they are.
type MemoryType string

const (
	RAM         MemoryType = "System RAM"
	Reserved    MemoryType = "Reserved"
	ACPITables  MemoryType = "ACPI Tables"
	ACPINVS     MemoryType = "ACPI Non-volatile Storage"
	Unusable    MemoryType = "Unusable memory"
	Persistent  MemoryType = "Persistent Memory"
	LegacyPmem  MemoryType = "Persistent Memory (legacy)"
	SoftReserve MemoryType = "Soft Reserved"

	// CrashKernel is RAM that is set aside for a crash kernel.
	CrashKernel MemoryType = "Crash kernel"

	// Kept is RAM of the firmware's map that the running kernel keeps out of its
	// own use, or that must reach the next one as it is.
	Kept MemoryType = "Kept RAM"
)

// IsRAM reports whether the next kernel may take the memory for RAM.
func (t MemoryType) IsRAM() bool { return t == RAM || t == Kept || t == CrashKernel }

// MemoryRange is a range of one type.
type MemoryRange struct {
	Range
	Type MemoryType
}

// MemoryMap is a machine's physical memory: ranges sorted by address that do not
// overlap. Addresses that no range covers are not memory.
type MemoryMap []MemoryRange

// ErrHidden means that the kernel shows this process zeros for addresses.
var ErrHidden = errors.New("addresses are hidden from this process, CAP_SYS_ADMIN shows them")

// ReadMemoryMap reads the memory map of the machine whose files fsys holds, rooted
// at "/". Where there is a /sys/firmware/memmap, its types are the firmware's; RAM
// of it that /proc/iomem does not call free becomes Kept or CrashKernel. Without
// one, as on arm64, /proc/iomem alone is the map. A /proc/iomem of zeros, which
// a process without privilege reads, is an error that wraps ErrHidden.
func ReadMemoryMap(fsys fs.FS) (MemoryMap, error) {
	firmware, err := readMemmap(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	text, err := fs.ReadFile(fsys, "proc/iomem")
	if errors.Is(err, fs.ErrNotExist) && len(firmware) > 0 {
		return firmware, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kexecseg: read memory map: %w", err)
	}
	running, err := ParseIOMem(text)
	if err != nil {
		return nil, err
	}
	if len(firmware) == 0 {
		return running, nil
	}
	return overlay(firmware, running), nil
}

// normalize sorts the map and merges neighbours of one type. Ranges that overlap
// or leave the address space are errors.
func (m MemoryMap) normalize() (MemoryMap, error) {
	m = slices.Clone(m)
	slices.SortStableFunc(m, func(a, b MemoryRange) int { return cmp.Compare(a.Start, b.Start) })
	var out MemoryMap
	for _, r := range m {
		if r.Size == 0 {
			continue
		}
		if r.wraps() {
			return nil, fmt.Errorf("kexecseg: memory map: range at %#x leaves the address space", r.Start)
		}
		if n := len(out); n > 0 {
			last := &out[n-1]
			if last.Overlaps(r.Range) {
				return nil, fmt.Errorf("kexecseg: memory map: %v %s overlaps %v %s", last.Range, last.Type, r.Range, r.Type)
			}
			if last.End() == r.Start && last.Type == r.Type {
				last.Size += r.Size
				continue
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// OfType returns the ranges of one type, merged where they touch.
func (m MemoryMap) OfType(t MemoryType) []Range {
	var out []Range
	for _, r := range m {
		if r.Type != t {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End() == r.Start {
			out[n-1].Size += r.Size
			continue
		}
		out = append(out, r.Range)
	}
	return out
}

// overlay returns the firmware's map with its RAM cut where the running kernel
// uses it for something else, or does not have it.
func overlay(firmware, running MemoryMap) MemoryMap {
	var out MemoryMap
	for _, f := range firmware {
		if f.Type != RAM {
			out = append(out, f)
			continue
		}
		at := f.Start
		put := func(end uint64, t MemoryType) {
			if end > at {
				out = append(out, MemoryRange{Range{at, end - at}, t})
				at = end
			}
		}
		for _, r := range running {
			if !r.Overlaps(f.Range) {
				continue
			}
			put(max(r.Start, f.Start), Kept)
			t := r.Type
			if t != RAM && t != CrashKernel {
				t = Kept
			}
			put(min(r.End(), f.End()), t)
		}
		put(f.End(), Kept)
	}
	out, _ = out.normalize() // parts of a normal map: they neither wrap nor overlap
	return out
}

// cut gives the part of the map's last RAM that r covers r's type.
func (m MemoryMap) cut(r MemoryRange) MemoryMap {
	for i := len(m) - 1; i >= 0; i-- {
		old := m[i]
		if old.Type != RAM || !old.Overlaps(r.Range) {
			continue
		}
		from, to := max(old.Start, r.Start), min(old.End(), r.End())
		m = slices.Replace(m, i, i+1,
			MemoryRange{Range{old.Start, from - old.Start}, RAM},
			MemoryRange{Range{from, to - from}, r.Type},
			MemoryRange{Range{to, old.End() - to}, RAM})
	}
	return m
}

// AppendText appends the map as text, one "0x100000-0x3ffcefff System RAM" a line,
// for a bug report. ParseMemoryMap reads it.
func (m MemoryMap) AppendText(b []byte) ([]byte, error) {
	for _, r := range m {
		b = fmt.Appendf(b, "%v %s\n", r.Range, r.Type)
	}
	return b, nil
}

// String is the map's text.
func (m MemoryMap) String() string {
	b, _ := m.AppendText(nil)
	return string(b)
}

// ParseMemoryMap reads the form that AppendText writes. The lines may come in any
// order; an error names the line.
func ParseMemoryMap(text []byte) (MemoryMap, error) {
	var m MemoryMap
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" {
			continue
		}
		span, kind, ok := strings.Cut(line, " ")
		first, last, ok2 := strings.Cut(span, "-")
		r, err := parseRange(first, last, 0)
		if !ok || !ok2 || err != nil {
			return nil, fmt.Errorf("kexecseg: memory map, line %d: %q is no \"0xstart-0xend type\"", n, line)
		}
		m = append(m, MemoryRange{r, MemoryType(strings.TrimSpace(kind))})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("kexecseg: memory map: %w", err)
	}
	return m.normalize()
}

// parseRange makes a range of its first and last address. The last byte of the
// address space, which no Range can hold, is left out.
func parseRange(first, last string, base int) (Range, error) {
	start, err := strconv.ParseUint(strings.TrimSpace(first), base, 64)
	if err != nil {
		return Range{}, err
	}
	end, err := strconv.ParseUint(strings.TrimSpace(last), base, 64)
	if err != nil {
		return Range{}, err
	}
	if end < start {
		return Range{}, fmt.Errorf("range %#x-%#x ends before it starts", start, end)
	}
	if end == ^uint64(0) {
		end--
	}
	return Range{start, end - start + 1}, nil
}
