package imalog

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

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
		sum := sha1.Sum(data)
		clear(room[copy(room, sum[:]):])
	case b.hash != nil:
		b.hash.Reset()
		b.hash.Write(data)
		b.hash.Sum(room[:0])
	case b.alg == AlgSHA1:
		sum := sha1.Sum(data)
		copy(room, sum[:])
	case b.alg == AlgSHA256:
		sum := sha256.Sum256(data)
		copy(room, sum[:])
	case b.alg == AlgSHA384:
		sum := sha512.Sum384(data)
		copy(room, sum[:])
	case b.alg == AlgSHA512:
		sum := sha512.Sum512(data)
		copy(room, sum[:])
	}
}

// extend replaces the value by the hash of the value and what was set.
func (b *bank) extend() {
	switch {
	case b.hash != nil:
		b.hash.Reset()
		b.hash.Write(b.buf[:2*b.size])
		b.hash.Sum(b.buf[:0])
	case b.alg == AlgSHA1:
		sum := sha1.Sum(b.buf[:2*sha1.Size])
		copy(b.buf[:], sum[:])
	case b.alg == AlgSHA256:
		sum := sha256.Sum256(b.buf[:2*sha256.Size])
		copy(b.buf[:], sum[:])
	case b.alg == AlgSHA384:
		sum := sha512.Sum384(b.buf[:2*sha512.Size384])
		copy(b.buf[:], sum[:])
	case b.alg == AlgSHA512:
		sum := sha512.Sum512(b.buf[:2*sha512.Size])
		copy(b.buf[:], sum[:])
	}
}

// clone returns a copy with a hash of its own.
func (b *bank) clone() bank {
	c := *b
	if c.make != nil {
		c.hash = c.make()
	}
	return c
}
