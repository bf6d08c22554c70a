package kexecseg

import (
	"fmt"
	"io/fs"
	"strings"
)

// readMemmap reads /sys/firmware/memmap (drivers/firmware/memmap.c): one folder
// for each range, with the files start, end (inclusive) and type.
func readMemmap(fsys fs.FS) (MemoryMap, error) {
	const root = "sys/firmware/memmap"
	entries, err := fs.ReadDir(fsys, root)
	if err != nil {
		return nil, fmt.Errorf("kexecseg: read memory map: %w", err)
	}
	var m MemoryMap
	for _, e := range entries {
		dir := root + "/" + e.Name()
		var fields [3]string
		for i, name := range []string{"start", "end", "type"} {
			b, err := fs.ReadFile(fsys, dir+"/"+name)
			if err != nil {
				return nil, fmt.Errorf("kexecseg: read memory map: %w", err)
			}
			fields[i] = strings.TrimSpace(string(b))
		}
		r, err := parseRange(fields[0], fields[1], 0)
		if err != nil {
			return nil, fmt.Errorf("kexecseg: /%s: %w", dir, err)
		}
		t := MemoryType(fields[2])
		if !t.known() {
			t = Reserved // a word of another kernel, for what is not to be used
		}
		m = append(m, MemoryRange{r, t})
	}
	return m.normalize()
}

// known reports whether the type is one that a firmware map has.
func (t MemoryType) known() bool {
	switch t {
	case RAM, Reserved, ACPITables, ACPINVS, Unusable, Persistent, LegacyPmem, SoftReserve:
		return true
	}
	return false
}
