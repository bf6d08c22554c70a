package kexecseg

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func TestReadMemoryMap(t *testing.T) {
	machines := captured(t)
	for name, want := range map[string]string{
		"big_6.12-cloud_big": `
0x0-0xfff Kept RAM
0x1000-0x9fbff System RAM
0x9fc00-0x9ffff Reserved
0xf0000-0xfffff Reserved
0x100000-0x3ffcefff System RAM
0x3ffcf000-0x3fffffff Reserved
0xfffc0000-0xffffffff Reserved
0xfd00000000-0xffffffffff Reserved
`,
		"x86-efi_6.12_before": `
0x0-0xfff Kept RAM
0x1000-0x9ffff System RAM
0x100000-0x805fff System RAM
0x806000-0x807fff ACPI Non-volatile Storage
0x808000-0x80ffff System RAM
0x810000-0x8fffff ACPI Non-volatile Storage
0x900000-0x3ea9efff System RAM
0x3ea9f000-0x3eba0fff Reserved
0x3eba1000-0x3f4ebfff System RAM
0x3f4ec000-0x3f76bfff Reserved
0x3f76c000-0x3f77dfff ACPI Tables
0x3f77e000-0x3f7fdfff ACPI Non-volatile Storage
0x3f7fe000-0x3fef3fff System RAM
0x3fef4000-0x3ff77fff Reserved
0x3ff78000-0x3fffffff ACPI Non-volatile Storage
0xffc00000-0xffffffff Reserved
`,
		"arm64_uefi-dt-chain_before": `
0x4000000-0x7ffffff reserved
0x9000000-0x9000fff pl011@9000000
0x9030000-0x9030fff pl061@9030000
0xc000000-0xc004fff c000000.tpm_tis tpm_tis@0
0x10000000-0x3efeffff pcie@10000000
0x40000000-0x7a4fffff System RAM
0x7a500000-0x7a501fff Kept RAM
0x7a502000-0x7a6fffff System RAM
0x7a700000-0x7b1f5fff Kept RAM
0x7b1f6000-0x7b7fffff System RAM
0x7b800000-0x7b93ffff Kept RAM
0x7b940000-0x7bbaffff System RAM
0x7bbb0000-0x7bbbffff Kept RAM
0x7bbc0000-0x7bbcefff System RAM
0x7bbcf000-0x7bbcffff Kept RAM
0x7bbd0000-0x7c42ffff System RAM
0x7c430000-0x7c72ffff reserved
0x7c730000-0x7d98bfff System RAM
0x7d98c000-0x7d98cfff Kept RAM
0x7d98d000-0x7e466fff System RAM
0x7e467000-0x7e7fefff Kept RAM
0x7e7ff000-0x7e7fffff System RAM
0x7e800000-0x7f9fffff Kept RAM
0x7fa00000-0x7fa00fff System RAM
0x7fa01000-0x7fbfffff Kept RAM
0x7fc00000-0x7ffdffff reserved
0x7ffe0000-0x7fffffff Kept RAM
0x4010000000-0x401fffffff PCI ECAM
0x8000000000-0xffffffffff pcie@10000000
`,
	} {
		t.Run(name, func(t *testing.T) {
			if got := readMap(t, machines[name]).String(); got != strings.TrimLeft(want, "\n") {
				t.Errorf("got\n%swant%s", got, want)
			}
		})
	}
}

// The text of every captured map reads back as the same map.
func TestMemoryMapText(t *testing.T) {
	for name, fsys := range captured(t) {
		m := readMap(t, fsys)
		back, err := ParseMemoryMap([]byte(m.String()))
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: %v\n%v\nread back as\n%v", name, err, m, back)
		}
	}
}

func TestParseMemoryMap(t *testing.T) {
	m, err := ParseMemoryMap([]byte("0x2000-0x2fff Reserved\n\n0x1000-0x1fff System RAM\n0x0-0xfff System RAM\n"))
	want := MemoryMap{{Range{0, 0x2000}, RAM}, {Range{0x2000, 0x1000}, Reserved}}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("unsorted, not merged: %v %v", m, err)
	}
	for name, text := range map[string]string{
		"no type":   "0x0-0xfff\n",
		"no end":    "0x1000 System RAM",
		"backwards": "0x2000-0x1000 System RAM",
		"overlap":   "0x0-0xfff System RAM\n0x800-0x1fff Reserved\n",
		"too large": "0x0-0x10000000000000000 System RAM",
	} {
		if m, err := ParseMemoryMap([]byte(text)); err == nil {
			t.Errorf("%s: read as %v", name, m)
		}
	}
}

func TestCrashKernelIsCutOut(t *testing.T) {
	fsys := fstest.MapFS{"proc/iomem": {Data: []byte(`00000000-00000fff : Reserved
00001000-0009ffff : System RAM
00100000-3fffffff : System RAM
  01000000-01ffffff : Kernel code
  20000000-2fffffff : Crash kernel
  30000000-3000ffff : Reserved
    30001000-30001fff : a child's child
`)}}
	putMemmap(fsys, "0x0-0x9ffff System RAM\n0x100000-0x7fffffff System RAM\n")
	const want = `0x0-0xfff Kept RAM
0x1000-0x9ffff System RAM
0x100000-0x1fffffff System RAM
0x20000000-0x2fffffff Crash kernel
0x30000000-0x3000ffff Kept RAM
0x30010000-0x3fffffff System RAM
0x40000000-0x7fffffff Kept RAM
`
	if got := readMap(t, fsys).String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// What a process without privilege sees of a real machine.
func TestHiddenAddresses(t *testing.T) {
	hidden := fstest.MapFS{"proc/iomem": {Data: []byte("00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n")}}
	for _, how := range []string{"without memmap", "with memmap"} {
		if how == "with memmap" {
			putMemmap(hidden, "0x0-0x9ffff System RAM\n")
		}
		if m, err := ReadMemoryMap(hidden); !errors.Is(err, ErrHidden) {
			t.Errorf("%s: %v, %v", how, m, err)
		}
	}
}

func TestReadMemoryMapErrors(t *testing.T) {
	if _, err := ReadMemoryMap(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	half := fstest.MapFS{}
	putMemmap(half, "0x0-0x9ffff System RAM\n0x100000-0x3fffffff System RAM\n")
	delete(half, "sys/firmware/memmap/1/end")
	if _, err := ReadMemoryMap(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is missing: %v", err)
	}
	for _, text := range []string{"0-1 System RAM\n", "0000-zzzz : System RAM\n", "2000-1000 : System RAM\n",
		"0000-1fff : System RAM\n1000-2fff : Reserved\n"} {
		if m, err := ParseIOMem([]byte(text)); err == nil {
			t.Errorf("%q read as %v", text, m)
		}
	}
}

func FuzzParseIOMem(f *testing.F) {
	for _, fsys := range captured(f) {
		b, err := fs.ReadFile(fsys, "proc/iomem")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseIOMem(b)
		if err != nil {
			return
		}
		checkNormal(t, m)
		if again, err := ParseMemoryMap([]byte(m.String())); err != nil || again.String() != m.String() {
			t.Fatalf("%v came back as %v, %v", m, again, err)
		}
	})
}

func FuzzParseMemoryMap(f *testing.F) {
	for _, fsys := range captured(f) {
		m, err := ReadMemoryMap(fsys)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(m.String()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMemoryMap(b)
		if err != nil {
			return
		}
		checkNormal(t, m)
		back, err := ParseMemoryMap([]byte(m.String()))
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%v\nread back as\n%v, %v", m, back, err)
		}
	})
}

func checkNormal(t *testing.T, m MemoryMap) {
	t.Helper()
	for i, r := range m {
		if r.Size == 0 || r.wraps() || i > 0 && m[i-1].End() > r.Start {
			t.Errorf("range %d of\n%v", i, m)
		}
	}
}

// A range without a name is no line of /proc/iomem, and what is read can be written.
func TestIOMemNames(t *testing.T) {
	for _, text := range []string{"1000-1fff : \n", "1000-1fff :  \n"} {
		if m, err := ParseIOMem([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, m)
		}
	}
	m, err := ParseIOMem([]byte("1000-1fff :  Odd name \n"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseMemoryMap([]byte(m.String())); err != nil || again.String() != m.String() || again[0] != m[0] {
		t.Errorf("%v came back as %v, %v", m, again, err)
	}
}
