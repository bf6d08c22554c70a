package imalog

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"slices"
)

// A lane replays one bank: along one path where it is known how the kernel
// extended it, or along several where that is searched for.
type lane struct {
	alg    uint16
	own    int // number of the hasher of the bank's algorithm
	sha1   int // that of SHA-1, for padded boots; -1 in a lane that has none
	listed int // that of the digests listed
	want   [][]byte
	paths  []path

	// How the paths branch, in a lane that is searched.
	searched bool
	limit    int       // assumptions that a path may make
	modes    bool      // about hashed and padded boots
	list     bool      // about guessed records and listed digests
	extra    bool      // about records that were never extended
	fixed    []*choice // about the list, to be made in any case
	same     []int     // for each boot, the last one before it of the same kernel; -1: none known
	boot     int       // boots begun
	budget   int       // extends that are left for it
	spent    bool      // the search has taken too many
}

// paddingCopy is the number of bytes whose copying costs as much as an extend.
const paddingCopy = 1024

// maxPaths is the most paths that a search keeps: a few megabytes.
const maxPaths = 1 << 14

// A path is a bank's state on some assumptions.
type path struct {
	bank
	cost    int
	last    *choice // the latest assumption
	padding []bool  // for each boot begun
	prefix  []int   // for each wanted value, the most records that yield it
}

// A choice is an assumption about the list or about a boot.
type choice struct {
	kind   choiceKind
	record int // index
	before *choice
}

type choiceKind uint8

const (
	choiceMode   choiceKind = iota + 1 // the mode changed with the boot that the record begins
	choiceGuess                        // the guessed record before it was extended
	choiceListed                       // the digest listed was extended, not that of the data
	choiceExtra                        // it was not extended
	choiceData                         // it is no violation: the digest of the data was extended
)

// fork adds a path that differs from p by one assumption and returns it.
func (l *lane) fork(p *path, kind choiceKind, record int) *path {
	q := *p
	q.cost++
	q.last = &choice{kind, record, p.last}
	q.padding = slices.Clone(p.padding)
	q.prefix = slices.Clone(p.prefix)
	l.budget -= len(p.padding) / paddingCopy
	l.paths = append(l.paths, q)
	if len(l.paths) > maxPaths {
		l.spent = true
	}
	return &l.paths[len(l.paths)-1]
}

// run takes the lane through a batch that has been hashed.
func (l *lane) run(b *batch) {
	if l.searched {
		l.search(b)
		return
	}
	p := &l.paths[0]
	size := p.size
	sums := b.sums[l.own]
	if p.padded {
		sums, size = b.sums[l.sha1], AlgSize(AlgSHA1)
	}
	room := p.room()
	clear(room)
	for i := range b.items {
		it := &b.items[i]
		if it.flags&itemOther == 0 {
			if it.flags&itemViolation == 0 {
				copy(room, sums[i*size:(i+1)*size])
				p.extend()
			} else {
				p.violation()
				p.extend()
				clear(room)
			}
		}
		p.compare(l.want, it.index+1)
	}
}

// begin notes which wanted values the bank has before the first record.
func (p *path) begin(want [][]byte) {
	p.prefix = make([]int, len(want))
	for i := range p.prefix {
		p.prefix[i] = -1
	}
	p.compare(want, 0)
}

// compare notes which wanted values a prefix of the list yields.
func (p *path) compare(want [][]byte, records int) {
	head := binary.LittleEndian.Uint64(p.buf[:])
	for i, w := range want {
		if len(w) == p.size && binary.LittleEndian.Uint64(w) == head && bytes.Equal(w, p.value()) {
			p.prefix[i] = records
		}
	}
}

// search takes every path through a batch and lets them branch.
func (l *lane) search(b *batch) {
	for i := range b.items {
		if l.spent {
			return
		}
		it := &b.items[i]
		if it.flags&itemBoot != 0 && it.flags&itemGuess == 0 {
			l.begin(it)
		}
		for j, n := 0, len(l.paths); j < n; j++ {
			l.step(j, b, i)
		}
		if l.budget -= len(l.paths); l.budget < 0 {
			l.spent = true
		}
	}
}

// begin begins a boot: each path goes on with the mode of the same kernel's last
// boot, or of the last one, and branches to the other.
func (l *lane) begin(it *item) {
	for j, n := 0, len(l.paths); j < n; j++ {
		p := &l.paths[j]
		if l.boot < len(l.same) && l.same[l.boot] >= 0 {
			p.padded = p.padding[l.same[l.boot]]
		}
		if l.modes && l.boot > 0 && p.cost < l.limit {
			q := l.fork(p, choiceMode, it.index)
			q.padded = !q.padded
			q.padding = append(q.padding, q.padded)
			p = &l.paths[j]
		}
		p.padding = append(p.padding, p.padded)
	}
	l.boot++
}

// step extends one path by an item and branches where the list may be wrong.
func (l *lane) step(j int, b *batch, i int) {
	it := &b.items[i]
	p := &l.paths[j]
	if it.flags&itemOther != 0 {
		if it.flags&itemGuess == 0 {
			p.compare(l.want, it.index+1)
		}
		return
	}
	may := func(kind choiceKind, allowed bool) bool {
		for _, c := range l.fixed {
			if c.kind == kind && c.record == it.index {
				return true
			}
		}
		return allowed && p.cost < l.limit
	}
	var kind choiceKind
	switch {
	case it.flags&itemGuess != 0:
		if may(choiceGuess, l.list) {
			l.set(l.fork(p, choiceGuess, it.index), b, i, choiceGuess)
		}
		return // not in the list: the path itself goes on without it
	case it.flags&itemViolation != 0:
		kind = choiceData
	case it.flags&itemBad != 0 && (l.own == l.listed || p.padded && l.sha1 == l.listed):
		kind = choiceListed
	}
	if kind != 0 && may(kind, l.list) {
		q := l.fork(p, kind, it.index)
		l.set(q, b, i, kind)
		q.compare(l.want, it.index+1)
		p = &l.paths[j]
	}
	if may(choiceExtra, l.extra) {
		q := l.fork(p, choiceExtra, it.index)
		q.compare(l.want, it.index+1)
		p = &l.paths[j]
	}
	l.set(p, b, i, 0)
	p.compare(l.want, it.index+1)
}

// set extends a path by an item, on an assumption about it if kind is one.
func (l *lane) set(p *path, b *batch, i int, kind choiceKind) {
	it := &b.items[i]
	room := p.room()
	clear(room)
	switch {
	case it.flags&itemViolation != 0 && kind != choiceData:
		p.violation()
	case kind == choiceListed:
		copy(room, b.data[it.listed:it.input])
	case p.padded:
		copy(room, b.sums[l.sha1][i*sha1.Size:(i+1)*sha1.Size])
	default:
		copy(room, b.sums[l.own][i*p.size:(i+1)*p.size])
	}
	p.extend()
}

// best returns the path that yields a wanted value with the fewest assumptions,
// the longest list among equals; nil if none does.
func (l *lane) best(want int) *path {
	var best *path
	for j := range l.paths {
		p := &l.paths[j]
		switch {
		case p.prefix[want] < 0:
		case best == nil, p.cost < best.cost, p.cost == best.cost && p.prefix[want] > best.prefix[want]:
			best = p
		}
	}
	return best
}
