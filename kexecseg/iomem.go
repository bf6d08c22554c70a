package kexecseg

import (
	"fmt"
	"strings"
)

// ParseIOMem reads the form of /proc/iomem: "start-end : name" in hexadecimal with
// an inclusive end, children indented by two spaces below their parent
// (kernel/resource.c: r_show). The result holds the top-level ranges of memory
// and, cut out of System RAM, its children: "Crash kernel", and as Kept every other
// but the running kernel's own image, which a kexec may overwrite.
func ParseIOMem(text []byte) (MemoryMap, error) {
	var m MemoryMap
	var zero, n int
	inRAM := false
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		span, name, ok := strings.Cut(line, " : ")
		first, last, ok2 := strings.Cut(span, "-")
		if strings.Trim(span, " 0-") == "" && ok && ok2 {
			zero++
			continue
		}
		r, err := parseRange(first, last, 16)
		name = strings.TrimSpace(name)
		if !ok || !ok2 || err != nil || name == "" {
			return nil, fmt.Errorf("kexecseg: /proc/iomem, line %d: %q is no \"start-end : name\"", n, line)
		}
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		switch {
		case depth == 0:
			inRAM = name == string(RAM)
			m = append(m, MemoryRange{r, MemoryType(name)})
		case inRAM && !strings.HasPrefix(name, "Kernel "):
			t := Kept
			if name == string(CrashKernel) {
				t = CrashKernel
			}
			m = m.cut(MemoryRange{r, t})
		}
	}
	if zero > 1 && len(m) == 0 {
		return nil, fmt.Errorf("kexecseg: /proc/iomem: %w", ErrHidden)
	}
	return m.normalize()
}
