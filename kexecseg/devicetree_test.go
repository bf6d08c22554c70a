package kexecseg

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/imakexec/imakexec/kexecseg/fdt"
)

func TestDeviceTreeMemory(t *testing.T) {
	read := func(name string) *fdt.Tree {
		t.Helper()
		b, err := os.ReadFile("fdt/testdata/" + name + ".dtb")
		if err != nil {
			t.Fatal(err)
		}
		tree, err := fdt.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	tree := read("kexec_load-chain-1_arrived")
	var reg []byte
	for _, v := range []uint64{0x60000000, 0x100000} {
		reg = binary.BigEndian.AppendUint64(reg, v)
	}
	tree.Root.Children = append(tree.Root.Children, &fdt.Node{Name: "reserved-memory",
		Properties: []fdt.Property{{Name: "#address-cells", Value: []byte{0, 0, 0, 2}}, {Name: "#size-cells", Value: []byte{0, 0, 0, 2}}},
		Children:   []*fdt.Node{{Name: "secure@60000000", Properties: []fdt.Property{{Name: "reg", Value: reg}}}, {Name: "cma"}}})
	m, err := DeviceTreeMemory(tree)
	const want = `0x40000000-0x4124ffff System RAM
0x41250000-0x41d351ff Kept RAM
0x41d35200-0x41d35fff System RAM
0x41d36000-0x41d36fff Kept RAM
0x41d37000-0x5fffffff System RAM
0x60000000-0x600fffff Kept RAM
0x60100000-0x7fffffff System RAM
`
	if err != nil || m.String() != want {
		t.Errorf("%v\n%s", err, m)
	}
	if m, err := DeviceTreeMemory(read("uefi-acpi-NOT-restored_before")); err == nil {
		t.Errorf("a tree without memory: %v", m)
	}
}

// What firmware has switched off, or keeps for itself, is no RAM.
func TestDeviceTreeUsableMemory(t *testing.T) {
	cells := func(v ...uint64) (b []byte) {
		for _, n := range v {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		return b
	}
	memory := func(name string, more ...fdt.Property) *fdt.Node {
		return &fdt.Node{Name: name, Properties: append([]fdt.Property{{Name: "device_type", Value: []byte("memory\x00")}}, more...)}
	}
	tree := &fdt.Tree{Root: &fdt.Node{
		Properties: []fdt.Property{{Name: "#address-cells", Value: []byte{0, 0, 0, 2}}, {Name: "#size-cells", Value: []byte{0, 0, 0, 2}}},
		Children: []*fdt.Node{
			memory("memory@1", fdt.Property{Name: "reg", Value: cells(0x1000_0000, 0x1000_0000)}),
			memory("memory@2", fdt.Property{Name: "reg", Value: cells(0x3000_0000, 0x1000_0000)}, fdt.Property{Name: "status", Value: []byte("disabled\x00")}),
			memory("memory@3", fdt.Property{Name: "reg", Value: cells(0x5000_0000, 0x1000_0000)}, fdt.Property{Name: "status", Value: []byte("okay\x00")},
				fdt.Property{Name: "linux,usable-memory", Value: cells(0x5000_0000, 0x800_0000)}),
		},
	}}
	m, err := DeviceTreeMemory(tree)
	const want = "0x10000000-0x1fffffff System RAM\n0x50000000-0x57ffffff System RAM\n"
	if err != nil || m.String() != want {
		t.Errorf("%v\n%s", err, m)
	}
}
