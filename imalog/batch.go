package imalog

import (
	"bytes"
	"hash"
)

// How many records are hashed together: few enough to stay in a processor's
// cache, many enough that handing them over costs nothing.
const (
	batchRecords = 512
	batchBytes   = 48 << 10
)

// A batch is a run of records on their way through a replay: copied from the
// list, then hashed in every bank's algorithm, then extended, bank by bank.
type batch struct {
	items  []item
	data   []byte      // what the items point into
	sums   [][]byte    // for each hasher, one digest for each item
	hashes []hash.Hash // injected ones, for each hasher
}

// An item is a record in a batch.
type item struct {
	index int // of the record in its list
	flags itemFlags
	// Offsets in the batch's data: of the digest as listed, of what it covers
	// behind it, and of that one's end.
	listed, input, end int
}

type itemFlags uint8

const (
	itemOther     itemFlags = 1 << iota // of another PCR
	itemViolation                       // extends 0xff bytes
	itemBoot                            // begins a boot
	itemGuess                           // not in the list: may have been extended before the record
	itemBad                             // the digest listed is not that of the data
)

func (b *batch) reset() {
	b.items = b.items[:0]
	if cap(b.data) > 1<<20 { // a giant has gone through
		b.data = nil
	}
	b.data = b.data[:0]
}

// claim brings the batch's memory back from the processors that have worked on it,
// all at once. Otherwise each record that is written into it would wait for them,
// which makes a replay on two distant processors a fifth slower.
func (b *batch) claim() {
	clear(b.items[:cap(b.items)])
	clear(b.data[:min(cap(b.data), batchBytes)])
	for _, sums := range b.sums {
		clear(sums)
	}
}

func (b *batch) full() bool {
	return len(b.items) >= batchRecords || len(b.data) >= batchBytes
}

// add copies a record into the batch.
func (b *batch) add(index int, flags itemFlags, rec *Record, pcr uint32) error {
	if rec.PCR != pcr {
		flags |= itemOther
	}
	if rec.Violation() {
		flags |= itemViolation
	}
	it := item{index: index, flags: flags, listed: len(b.data)}
	b.data = append(b.data, rec.Digest...)
	it.input = len(b.data)
	if rec.Template != templateIMA {
		b.data = append(b.data, rec.Data...)
	} else {
		var buf [imaDigestInput]byte
		in, err := rec.digestInput(&buf)
		// What extends nothing, or 0xff bytes, needs no digest.
		if err != nil && flags&(itemOther|itemViolation) == 0 {
			return err
		}
		b.data = append(b.data, in...)
	}
	it.end = len(b.data)
	b.items = append(b.items, it)
	return nil
}

// A hasher is an algorithm that a batch is hashed in.
type hasher struct {
	alg  uint16
	size int
	make func() hash.Hash // nil: that of the standard library
}

// digest hashes every item in every algorithm and checks the digests that are
// listed, those of hasher number listed.
func (b *batch) digest(hashers []hasher, listed int) {
	for len(b.sums) < len(hashers) {
		h := hashers[len(b.sums)]
		b.sums = append(b.sums, make([]byte, h.size*(batchRecords+2)))
		var custom hash.Hash
		if h.make != nil {
			custom = h.make()
		}
		b.hashes = append(b.hashes, custom)
	}
	for n, h := range hashers {
		b.hash(h, b.sums[n], b.hashes[n])
	}
	if listed < 0 {
		return
	}
	size, sums := hashers[listed].size, b.sums[listed]
	for i := range b.items {
		it := &b.items[i]
		if it.flags&(itemViolation|itemGuess) == 0 && !bytes.Equal(b.data[it.listed:it.input], sums[i*size:(i+1)*size]) {
			it.flags |= itemBad
		}
	}
}

func (b *batch) hash(h hasher, sums []byte, custom hash.Hash) {
	for i := range b.items {
		it := &b.items[i]
		in := b.data[it.input:it.end]
		out := sums[i*h.size : (i+1)*h.size]
		if custom != nil {
			customInto(out, custom, in)
		} else {
			sumInto(out, h.alg, in)
		}
	}
}
