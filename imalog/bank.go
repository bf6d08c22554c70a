package imalog

import "hash"

// A bank is the state of one PCR bank.
type bank struct {
	alg    uint16
	size   int
	padded bool
	make   func() hash.Hash
	hash   hash.Hash // nil: that of the standard library
	// The value and, behind it, room for the digest that extends it.
	buf [2 * maxDigest]byte
}

// newBank returns a bank of zeros, with size 0 where there is no hash for it.
func newBank(alg uint16, custom func() hash.Hash) bank {
	b := bank{alg: alg, size: AlgSize(alg), make: custom}
	switch {
	case custom != nil:
		if b.hash = custom(); b.hash.Size() != b.size {
			b.size = 0
		}
	case alg == AlgSM3_256:
		b.size = 0
	}
	return b
}

func (b *bank) value() []byte { return b.buf[:b.size:b.size] }

// room is where the digest goes that extends the bank.
func (b *bank) room() []byte { return b.buf[b.size : 2*b.size] }

// violation sets what a violation extends.
func (b *bank) violation() {
	room := b.room()
	for i := range room {
		room[i] = 0xff
	}
}

// digest sets what the kernel extends for data that is no violation.
func (b *bank) digest(data []byte) {
	room := b.room()
	switch {
	case b.padded && b.alg != AlgSHA1:
		clear(room[sumInto(room, AlgSHA1, data):])
	case b.hash != nil:
		customInto(room, b.hash, data)
	default:
		sumInto(room, b.alg, data)
	}
}

// extend replaces the value by the hash of the value and what was set.
func (b *bank) extend() {
	in := b.buf[:2*b.size]
	if b.hash != nil {
		customInto(in, b.hash, in)
	} else {
		sumInto(in, b.alg, in)
	}
}

// customInto is sumInto for a hash that was injected.
func customInto(dst []byte, h hash.Hash, data []byte) {
	h.Reset()
	h.Write(data)
	h.Sum(dst[:0])
}

// clone returns a copy with a hash of its own.
func (b *bank) clone() bank {
	c := *b
	if c.make != nil {
		c.hash = c.make()
	}
	return c
}
