// Package fdt reads and writes flattened device trees: what firmware and kexec hand
// to a kernel on arm64 (Devicetree Specification 0.4, chapter 5).
//
// Parse gives a tree of nodes that can be changed; AppendBinary writes it as
// compactly as the format allows. What a tree holds beyond structure, property
// values, is bytes.
package fdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Tree is a device tree.
type Tree struct {
	Reserved []Reservation // the memory reservation block
	BootCPU  uint32        // boot_cpuid_phys
	Root     *Node
}

// Reservation is memory that the kernel must not use: bytes from a physical address.
type Reservation struct{ Address, Size uint64 }

// Node is a node of the tree. Its name includes the unit address: "memory@40000000".
// The root's is empty.
type Node struct {
	Name       string
	Properties []Property
	Children   []*Node
}

// Property is a property and its value as the format has it: numbers are big-endian
// 32-bit cells, strings end with a NUL.
type Property struct {
	Name  string
	Value []byte
}

// Child returns the child of that name; nil: none.
func (n *Node) Child(name string) *Node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Get returns the value of a property and whether there is one.
func (n *Node) Get(name string) ([]byte, bool) {
	for _, p := range n.Properties {
		if p.Name == name {
			return p.Value, true
		}
	}
	return nil, false
}

// Set gives a property a value, in the place of the one it had.
func (n *Node) Set(name string, value []byte) {
	for i := range n.Properties {
		if n.Properties[i].Name == name {
			n.Properties[i].Value = value
			return
		}
	}
	n.Properties = append(n.Properties, Property{name, value})
}

// Delete removes a property.
func (n *Node) Delete(name string) {
	n.Properties = slices.DeleteFunc(n.Properties, func(p Property) bool { return p.Name == name })
}

// Cells returns #address-cells and #size-cells of the node: how many 32-bit cells an
// address and a size have in the reg of its children. The defaults are 2 and 1.
func (n *Node) Cells() (address, size int, err error) {
	address, size = 2, 1
	for _, c := range []struct {
		name string
		to   *int
	}{{"#address-cells", &address}, {"#size-cells", &size}} {
		v, ok := n.Get(c.name)
		if !ok {
			continue
		}
		if len(v) != 4 {
			return 0, 0, fmt.Errorf("fdt: %s has %d bytes", c.name, len(v))
		}
		*c.to = int(binary.BigEndian.Uint32(v))
		if *c.to < 0 || *c.to > 2 {
			return 0, 0, fmt.Errorf("fdt: %s is %d; more than 64 bits are not read", c.name, binary.BigEndian.Uint32(v))
		}
	}
	return address, size, nil
}

// AppendCells appends a number of so many cells, 1 or 2; one that does not fit is an
// error.
func AppendCells(b []byte, v uint64, cells int) ([]byte, error) {
	switch {
	case cells == 2:
		return binary.BigEndian.AppendUint64(b, v), nil
	case cells == 1 && v <= 1<<32-1:
		return binary.BigEndian.AppendUint32(b, uint32(v)), nil
	}
	return nil, fmt.Errorf("fdt: %#x does not fit into %d cells", v, cells)
}

// Reg splits a reg property: pairs of address and size, of so many cells each.
func Reg(value []byte, addressCells, sizeCells int) ([]Reservation, error) {
	step := 4 * (addressCells + sizeCells)
	if addressCells < 0 || addressCells > 2 || sizeCells < 0 || sizeCells > 2 || step == 0 || len(value)%step != 0 {
		return nil, fmt.Errorf("fdt: reg of %d bytes with %d and %d cells", len(value), addressCells, sizeCells)
	}
	var regs []Reservation
	for ; len(value) > 0; value = value[step:] {
		regs = append(regs, Reservation{number(value[:4*addressCells]), number(value[4*addressCells : step])})
	}
	return regs, nil
}

// number reads a big-endian number of at most eight bytes.
func number(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// ErrFormat means that bytes are no device tree.
var ErrFormat = errors.New("not a flattened device tree")

// FormatError says where. It wraps ErrFormat.
type FormatError struct {
	Offset uint64 // in the bytes that were parsed
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("fdt: at offset %#x: %s", e.Offset, e.Reason)
}

func (e *FormatError) Unwrap() error { return ErrFormat }
