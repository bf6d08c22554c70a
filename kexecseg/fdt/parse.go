package fdt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

const (
	magic      = 0xd00dfeed
	headerSize = 40 // of version 17
	version    = 17
	compatible = 16
	maxDepth   = 64

	tokenBegin = 1
	tokenEnd   = 2
	tokenProp  = 3
	tokenNop   = 4
	tokenLast  = 9
)

// parser walks the structure block.
type parser struct {
	all     []byte // the tree, totalsize bytes
	structs block
	strings block
	names   string // the same bytes, of which all names are parts
	at      uint64 // offset in all
}

// block is a part of the tree.
type block struct{ start, end uint64 }

// Parse reads a device tree of version 16 or later. What follows its totalsize is
// ignored. Values and names are copies. An error is a FormatError.
func Parse(b []byte) (*Tree, error) {
	be := binary.BigEndian
	fail := func(off uint64, format string, args ...any) (*Tree, error) {
		return nil, &FormatError{off, fmt.Sprintf(format, args...)}
	}
	if len(b) < headerSize {
		return fail(uint64(len(b)), "the bytes end before the header does")
	}
	if m := be.Uint32(b); m != magic {
		return fail(0, "the magic is %#x, not %#x", m, uint32(magic))
	}
	total := uint64(be.Uint32(b[4:]))
	if total < headerSize || total > uint64(len(b)) {
		return fail(4, "totalsize is %d of %d bytes", total, len(b))
	}
	if v, c := be.Uint32(b[20:]), be.Uint32(b[24:]); v < compatible || c > version {
		return fail(20, "version %d, compatible with %d, and %d is the one that is read", v, c, version)
	}
	p := &parser{all: bytes.Clone(b[:total]), names: string(b[:total])}
	var ok bool
	if p.strings, ok = p.block(12, 32); !ok {
		return fail(12, "the strings block is outside the tree")
	}
	if p.structs, ok = p.block(8, 36); !ok {
		return fail(8, "the structure block is outside the tree")
	}
	if p.structs.start%4 != 0 {
		return fail(8, "the structure block is not aligned to 4 bytes")
	}
	t := &Tree{BootCPU: be.Uint32(b[28:])}
	for off := uint64(be.Uint32(b[16:])); ; off += 16 {
		if off+16 > total {
			return fail(off, "the memory reservation block has no end")
		}
		r := Reservation{be.Uint64(b[off:]), be.Uint64(b[off+8:])}
		if r == (Reservation{}) {
			break
		}
		t.Reserved = append(t.Reserved, r)
	}
	p.at = p.structs.start
	token, err := p.token()
	if err == nil && token != tokenBegin {
		err = p.failf("token %d, and the root node begins with %d", token, tokenBegin)
	}
	if err != nil {
		return nil, err
	}
	if t.Root, err = p.node(0); err != nil {
		return nil, err
	}
	if token, err = p.token(); err == nil && token != tokenLast {
		err = p.failf("token %d after the root node", token)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// block reads the offsets of a block from the header. In version 16 the structure
// block has no size: it goes on to the end.
func (p *parser) block(offset, size uint64) (block, bool) {
	be := binary.BigEndian
	b := block{start: uint64(be.Uint32(p.all[offset:]))}
	b.end = b.start + uint64(be.Uint32(p.all[size:]))
	if size == 36 && be.Uint32(p.all[20:]) == compatible {
		b.end = uint64(len(p.all))
	}
	return b, b.start >= headerSize-4 && b.start <= b.end && b.end <= uint64(len(p.all))
}

func (p *parser) failf(format string, args ...any) error {
	return &FormatError{p.at - 4, fmt.Sprintf(format, args...)}
}

func (p *parser) word() (uint32, error) {
	if p.at+4 > p.structs.end {
		p.at += 4
		return 0, p.failf("the structure block ends too early")
	}
	v := binary.BigEndian.Uint32(p.all[p.at:])
	p.at += 4
	return v, nil
}

// token returns the next token that is not a NOP.
func (p *parser) token() (uint32, error) {
	for {
		v, err := p.word()
		if err != nil || v != tokenNop {
			return v, err
		}
	}
}

// node reads what follows the token that begins a node.
func (p *parser) node(depth int) (*Node, error) {
	if depth == maxDepth {
		return nil, p.failf("nodes are nested more than %d deep", maxDepth)
	}
	name, err := p.text(p.at, p.structs.end)
	if err != nil {
		return nil, err
	}
	if depth == 0 {
		name = "" // what else is there means nothing
	}
	p.at += uint64(len(name)) + 1
	if depth == 0 {
		p.at = p.afterNUL(p.at - 1)
	}
	p.align()
	n := &Node{Name: name}
	for {
		token, err := p.token()
		if err != nil {
			return nil, err
		}
		switch token {
		case tokenEnd:
			return n, nil
		case tokenBegin:
			c, err := p.node(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Children = append(n.Children, c)
		case tokenProp:
			if len(n.Children) > 0 {
				return nil, p.failf("a property after a child")
			}
			property, err := p.property()
			if err != nil {
				return nil, err
			}
			n.Properties = append(n.Properties, property)
		default:
			return nil, p.failf("token %d inside a node", token)
		}
	}
}

func (p *parser) property() (Property, error) {
	size, err := p.word()
	if err != nil {
		return Property{}, err
	}
	nameoff, err := p.word()
	if err != nil {
		return Property{}, err
	}
	if uint64(size) > p.structs.end-p.at {
		return Property{}, p.failf("a property of %d bytes passes the end of the structure block", size)
	}
	name, err := p.text(p.strings.start+uint64(nameoff), p.strings.end)
	if err != nil {
		return Property{}, err
	}
	if name == "" {
		return Property{}, p.failf("a property without a name")
	}
	value := p.all[p.at : p.at+uint64(size) : p.at+uint64(size)]
	p.at += uint64(size)
	p.align()
	return Property{name, value}, nil
}

func (p *parser) align() { p.at = (p.at + 3) &^ 3 }

// text reads up to a NUL that comes before end.
func (p *parser) text(at, end uint64) (string, error) {
	if at < end {
		if i := strings.IndexByte(p.names[at:end], 0); i >= 0 {
			return p.names[at : at+uint64(i)], nil
		}
	}
	return "", p.failf("a name at %#x has no end", at)
}

// afterNUL returns the offset after the next NUL, which text has found.
func (p *parser) afterNUL(at uint64) uint64 {
	return at + uint64(bytes.IndexByte(p.all[at:], 0)) + 1
}
