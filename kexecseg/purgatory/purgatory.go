// Package purgatory is code for x86-64 that runs between two kernels: it hashes the
// loaded image once more and jumps to the next kernel only if nothing changed since
// the digest was made. Otherwise it says so on a serial port and halts.
//
// It is the equal of what kexec_file_load(2) brings along (arch/x86/purgatory),
// written anew: purgatory.S is its source, build.sh assembles it into
// purgatory.bin, which is linked in. It uses the CPU's SHA extensions where they
// are.
package purgatory

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/imakexec/imakexec/kexecseg"
)

//go:embed purgatory.bin
var binaryCode string

// Offsets of the header's words, each the offset of something in the code.
const (
	offPlain = 8 + 4*iota
	offNI
	offTable
	offEnd
)

// Layout of the table, from offTable on.
const (
	tabEntry   = 0
	tabArg     = 8
	tabDigest  = 16
	tabPadding = 48
	tabCount   = 112
	tabPort    = 116
	tabRegions = 120
	maxRegions = 16

	blockSize = 64 // of SHA-256
)

func word(off int) int { return int(binary.LittleEndian.Uint32([]byte(binaryCode[off:]))) }

// Size is what the code takes in memory, in bytes. It runs from any page.
func Size() uint64 { return uint64(word(offEnd)) }

// COM1 is the serial port of most machines.
const COM1 = 0x3f8

// Params is what a purgatory is to do.
type Params struct {
	Entry    uint64 // physical address to jump to
	Argument uint64 // RSI: the address of boot_params

	// Regions is what is hashed, in this order, as kexecseg.Image.SHARegions
	// returns it; the segment of the purgatory itself must not be in it. Each is a
	// multiple of 64 bytes long.
	Regions []kexecseg.SHARegion
	Digest  [32]byte // SHA-256 over them: kexecseg.Image.Digest

	Port uint16 // I/O address of the 8250 that is told; 0: none
}

// ErrRegions means that the regions are none that this purgatory can hash.
var ErrRegions = errors.New("regions that cannot be hashed")

// Code returns the code for a segment that begins at physical address at; its first
// byte is the entry. Errors wrap ErrRegions.
func Code(at uint64, p *Params) ([]byte, error) {
	if n := len(p.Regions); n == 0 || n > maxRegions {
		return nil, fmt.Errorf("purgatory: %w: %d, and there is room for 1 to %d", ErrRegions, n, maxRegions)
	}
	le := binary.LittleEndian
	code := []byte(binaryCode)
	table := code[word(offTable):]
	le.PutUint64(table[tabEntry:], p.Entry)
	le.PutUint64(table[tabArg:], p.Argument)
	for i := 0; i < len(p.Digest); i += 4 {
		le.PutUint32(table[tabDigest+i:], binary.BigEndian.Uint32(p.Digest[i:]))
	}
	own := kexecseg.Range{Start: at, Size: Size()}
	var total uint64
	regions := table[tabRegions:]
	put := func(start, size uint64) {
		le.PutUint64(regions, start)
		le.PutUint64(regions[8:], size)
		regions = regions[16:]
	}
	for i, r := range p.Regions {
		switch {
		case r.Len%blockSize != 0 || r.Len == 0:
			return nil, fmt.Errorf("purgatory: %w: number %d has %d bytes, which is no multiple of %d", ErrRegions, i, r.Len, blockSize)
		case own.Overlaps(kexecseg.Range{Start: r.Start, Size: r.Len}):
			return nil, fmt.Errorf("purgatory: %w: number %d at %#x holds the purgatory, which is at %v", ErrRegions, i, r.Start, own)
		}
		total += r.Len
		put(r.Start, r.Len)
	}
	// What SHA-256 appends is a block of its own, since all the others are full
	// (FIPS 180-4, 5.1.1).
	padding := table[tabPadding:][:blockSize]
	padding[0] = 0x80
	binary.BigEndian.PutUint64(padding[blockSize-8:], total*8)
	put(at+uint64(word(offTable)+tabPadding), blockSize)
	le.PutUint32(table[tabCount:], uint32(len(p.Regions)+1))
	le.PutUint32(table[tabPort:], uint32(p.Port))
	return code, nil
}
