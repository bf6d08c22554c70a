package imalog

import (
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/bits"
	"testing"
)

// sm3 is the hash of GB/T 32905-2016, which the standard library lacks: what a
// program that verifies SM3 banks injects.
type sm3 struct {
	v   [8]uint32
	buf []byte
	n   uint64
}

func newSM3() hash.Hash {
	h := new(sm3)
	h.Reset()
	return h
}

func (h *sm3) Reset() {
	h.v = [8]uint32{0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600, 0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e}
	h.buf, h.n = h.buf[:0], 0
}

func (*sm3) Size() int      { return 32 }
func (*sm3) BlockSize() int { return 64 }

func (h *sm3) Write(p []byte) (int, error) {
	h.n += uint64(len(p))
	h.buf = append(h.buf, p...)
	for len(h.buf) >= 64 {
		h.block(h.buf[:64])
		h.buf = h.buf[:copy(h.buf, h.buf[64:])]
	}
	return len(p), nil
}

func (h *sm3) Sum(b []byte) []byte {
	c := sm3{v: h.v, n: h.n, buf: append([]byte(nil), h.buf...)}
	bitLen := c.n * 8
	c.Write([]byte{0x80})
	for len(c.buf) != 56 {
		c.Write([]byte{0})
	}
	c.Write(binary.BigEndian.AppendUint64(nil, bitLen))
	for _, v := range c.v {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func (h *sm3) block(p []byte) {
	p0 := func(x uint32) uint32 { return x ^ bits.RotateLeft32(x, 9) ^ bits.RotateLeft32(x, 17) }
	p1 := func(x uint32) uint32 { return x ^ bits.RotateLeft32(x, 15) ^ bits.RotateLeft32(x, 23) }
	var w [68]uint32
	for j := range 16 {
		w[j] = binary.BigEndian.Uint32(p[4*j:])
	}
	for j := 16; j < 68; j++ {
		w[j] = p1(w[j-16]^w[j-9]^bits.RotateLeft32(w[j-3], 15)) ^ bits.RotateLeft32(w[j-13], 7) ^ w[j-6]
	}
	a, b, c, d, e, f, g, k := h.v[0], h.v[1], h.v[2], h.v[3], h.v[4], h.v[5], h.v[6], h.v[7]
	for j := range 64 {
		t, ff, gg := uint32(0x79cc4519), a^b^c, e^f^g
		if j >= 16 {
			t, ff, gg = 0x7a879d8a, a&b|a&c|b&c, e&f|^e&g
		}
		ss1 := bits.RotateLeft32(bits.RotateLeft32(a, 12)+e+bits.RotateLeft32(t, j%32), 7)
		tt1 := ff + d + (ss1 ^ bits.RotateLeft32(a, 12)) + (w[j] ^ w[j+4])
		tt2 := gg + k + ss1 + w[j]
		a, b, c, d = tt1, a, bits.RotateLeft32(b, 9), c
		e, f, g, k = p0(tt2), e, bits.RotateLeft32(f, 19), g
	}
	for i, x := range []uint32{a, b, c, d, e, f, g, k} {
		h.v[i] ^= x
	}
}

func TestSM3(t *testing.T) {
	h := newSM3()
	h.Write([]byte("abc"))
	if got := hex.EncodeToString(h.Sum(nil)); got != "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0" {
		t.Error(got)
	}
}
