package fdt

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// AppendBinary appends the tree in the format's version 17: header, memory
// reservations, structure, strings, without a gap but for alignment. Every name of a
// property is stored once. Trees that the format cannot hold are errors: names with
// a NUL, reservations of 0 bytes at 0, more than 4 GiB, nodes more than 64 deep.
func (t *Tree) AppendBinary(b []byte) ([]byte, error) {
	w := writer{names: make(map[string]uint32)}
	if t.Root == nil {
		return nil, fmt.Errorf("fdt: a tree without a root")
	}
	if err := w.node(t.Root, 0); err != nil {
		return nil, err
	}
	w.word(tokenLast)

	be := binary.BigEndian
	structs := headerSize + 16*uint64(len(t.Reserved)+1)
	strs := structs + uint64(len(w.structs))
	total := strs + uint64(len(w.strings))
	if total > 1<<32-1 {
		return nil, fmt.Errorf("fdt: a tree of %d bytes", total)
	}
	for _, v := range []uint32{magic, uint32(total), uint32(structs), uint32(strs), headerSize, version, compatible,
		t.BootCPU, uint32(len(w.strings)), uint32(len(w.structs))} {
		b = be.AppendUint32(b, v)
	}
	for _, r := range t.Reserved {
		if r == (Reservation{}) {
			return nil, fmt.Errorf("fdt: a reservation of nothing would end the block")
		}
		b = be.AppendUint64(be.AppendUint64(b, r.Address), r.Size)
	}
	b = append(b, make([]byte, 16)...)
	b = append(b, w.structs...)
	return append(b, w.strings...), nil
}

type writer struct {
	structs, strings []byte
	names            map[string]uint32
}

func (w *writer) word(v uint32) { w.structs = binary.BigEndian.AppendUint32(w.structs, v) }

func (w *writer) align() { w.structs = append(w.structs, make([]byte, -len(w.structs)&3)...) }

func (w *writer) node(n *Node, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("fdt: nodes are nested more than %d deep", maxDepth)
	}
	if strings.Contains(n.Name, "\x00") {
		return fmt.Errorf("fdt: the node name %q has a NUL", n.Name)
	}
	w.word(tokenBegin)
	w.structs = append(append(w.structs, n.Name...), 0)
	w.align()
	for _, p := range n.Properties {
		if p.Name == "" || strings.Contains(p.Name, "\x00") {
			return fmt.Errorf("fdt: the property name %q in node %q", p.Name, n.Name)
		}
		off, ok := w.names[p.Name]
		if !ok {
			off = uint32(len(w.strings))
			w.names[p.Name] = off
			w.strings = append(append(w.strings, p.Name...), 0)
		}
		w.word(tokenProp)
		w.word(uint32(len(p.Value)))
		w.word(off)
		w.structs = append(w.structs, p.Value...)
		w.align()
	}
	for _, c := range n.Children {
		if err := w.node(c, depth+1); err != nil {
			return err
		}
	}
	w.word(tokenEnd)
	return nil
}
