package testenv

import "encoding/binary"

// ELF makes a static program for x86-64 of one segment, to be read, written and run:
// body lies at offset at, behind the headers, and it is entered at offset entry.
func ELF(body []byte, at, entry int) []byte {
	const base = 0x400000
	le := binary.LittleEndian
	b := append(make([]byte, at, at+len(body)), body...)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], base+uint64(entry))
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	ph := b[64:]
	le.PutUint32(ph, 1)     // PT_LOAD
	le.PutUint32(ph[4:], 7) // to be read, written and run
	le.PutUint64(ph[16:], base)
	le.PutUint64(ph[24:], base)
	le.PutUint64(ph[32:], uint64(len(b)))
	le.PutUint64(ph[40:], uint64(len(b)))
	le.PutUint64(ph[48:], 0x1000)
	return b
}
