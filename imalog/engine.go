package imalog

import (
	"bytes"
	"context"
	"hash"
	"iter"
	"runtime"
)

// An engine takes a list through the lanes: in batches, hashed by as many
// goroutines as are asked for, and extended by one at a time in each lane. What
// comes out does not depend on their number.
type engine struct {
	pcr     uint32
	workers int
	hashes  map[uint16]func() hash.Hash
	hashers []hasher
	// Algorithm of the digests that are listed, and number of its hasher; -1 while
	// it is not known and where there is no hash for it.
	listedAlg uint16
	listed    int
	unchecked bool // which algorithm that is is not, or no longer, looked for
	lanes     []*lane
	guess     *guesser // nil: nothing is guessed

	// What was found on the way.
	records int
	bytes   int64 // of the records
	boots   []int
	whole   bool     // the first record begins a boot
	kernels []string // for each boot, kernel_version as it was measured; "": it was not
	bad     []int    // records whose digest is not that of the data, the first ones

	violations int

	b   *batch
	par *pipeline // nil until a second batch is needed, and with one worker
}

// maxBad is the most records that are named for a wrong digest.
const maxBad = 1 << 12

// newEngine returns an engine with a lane for each bank of a Replayer, in its
// state.
func newEngine(r *Replayer, opts *ReplayOptions) *engine {
	e := &engine{pcr: r.pcr, listed: -1, workers: opts.Workers, listedAlg: opts.Listed, hashes: opts.Hashes}
	for i := range r.banks {
		b := r.banks[i].clone()
		l := &lane{alg: b.alg, own: e.hasher(b.alg), sha1: -1, listed: -1, paths: []path{{bank: b}}}
		if b.padded {
			l.sha1 = e.hasher(AlgSHA1)
		}
		e.lanes = append(e.lanes, l)
	}
	if e.workers <= 0 {
		e.workers = min(runtime.GOMAXPROCS(0), len(e.lanes)+1)
	}
	return e
}

// hasher returns the number of an algorithm's hasher.
func (e *engine) hasher(alg uint16) int {
	for i := range e.hashers {
		if e.hashers[i].alg == alg {
			return i
		}
	}
	e.hashers = append(e.hashers, hasher{alg, AlgSize(alg), e.hashes[alg]})
	return len(e.hashers) - 1
}

// run takes the list through.
func (e *engine) run(ctx context.Context, list iter.Seq2[Record, error]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.b = new(batch)
	err := e.read(ctx, list)
	if e.par == nil {
		e.finish(e.b)
		return err
	}
	e.par.close()
	return err
}

func (e *engine) read(ctx context.Context, list iter.Seq2[Record, error]) error {
	for rec, err := range list {
		if err != nil {
			return err
		}
		if err := e.add(&rec); err != nil {
			return &RecordError{e.bytes, e.records, err}
		}
		e.bytes += int64(rec.BinarySize())
		e.records++
		if e.b.full() {
			if err := ctx.Err(); err != nil {
				return err
			}
			e.next()
		}
	}
	return nil
}

func (e *engine) add(rec *Record) error {
	if !e.unchecked && !rec.Violation() {
		e.listDigest(rec)
	}
	var flags itemFlags
	begins := rec.BootAggregate()
	if begins || e.records == 0 {
		flags = itemBoot
		if e.records == 0 {
			e.whole = begins
		}
		if e.guess != nil && e.records > 0 {
			guess := e.guess.boundary(e.records)
			if err := e.b.add(e.records, itemGuess, &guess, e.pcr); err != nil {
				return err
			}
		}
		e.boots = append(e.boots, e.records)
		e.kernels = append(e.kernels, "")
	} else if boot := len(e.boots) - 1; e.records-e.boots[boot] < kernelVersionWithin && string(rec.name()) == kernelVersion {
		e.kernels[boot] = string(rec.Buf())
	}
	if e.guess != nil {
		e.guess.see(e.records, rec)
	}
	return e.b.add(e.records, flags, rec, e.pcr)
}

// listDigest finds out which algorithm the digests listed have. Where two have
// that size it is the one that the record's digest is of, or else the next may tell.
func (e *engine) listDigest(rec *Record) {
	var buf [imaDigestInput]byte
	input, err := rec.digestInput(&buf)
	if err != nil {
		return // the next record may tell
	}
	var found []bank
	for _, a := range algs {
		if a.id == e.listedAlg || e.listedAlg == 0 && a.size == len(rec.Digest) {
			found = append(found, newBank(a.id, e.hashes[a.id]))
		}
	}
	for i := range found {
		b := &found[i]
		if b.size == 0 {
			continue
		}
		if b.digest(input); len(found) > 1 && !bytes.Equal(b.room(), rec.Digest) {
			continue
		}
		e.unchecked = true
		e.listed = e.hasher(b.alg)
		for _, l := range e.lanes {
			l.listed = e.listed
		}
		return
	}
	e.unchecked = len(found) < 2
}

// next passes the batch on and gets an empty one.
func (e *engine) next() {
	e.unchecked = true // others may be hashing from now on
	if e.workers == 1 {
		e.finish(e.b)
		return
	}
	if e.par == nil {
		e.par = newPipeline(e)
	}
	e.b = e.par.exchange()
}

// finish does all that is to be done with a batch and empties it.
func (e *engine) finish(b *batch) {
	b.digest(e.hashers, e.listed)
	for _, l := range e.lanes {
		l.run(b)
	}
	e.collect(b)
}

// collect takes out of a batch what the list is found to be.
func (e *engine) collect(b *batch) {
	for i := range b.items {
		switch it := &b.items[i]; {
		case it.flags&itemViolation != 0:
			e.violations++
		case it.flags&itemBad != 0 && len(e.bad) < maxBad:
			e.bad = append(e.bad, it.index)
		}
	}
	b.reset()
}
