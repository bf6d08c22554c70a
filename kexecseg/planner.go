package kexecseg

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Piece is something that needs a place in memory.
type Piece struct {
	Name string // for errors: "kernel", "initrd"
	Size uint64 // bytes; rounded up to whole pages

	// The piece starts at a multiple of Align, a power of two (0, or less than a
	// page: a page), plus Offset, whole pages and less than Align.
	Align, Offset uint64

	// All of it lies from Min to below Max. Max 0: no bound.
	Min, Max uint64

	// Low asks for the lowest place; otherwise it is the highest.
	Low bool
}

// Planner places pieces in a machine's memory by the rules of rules.go.
type Planner struct {
	Memory MemoryMap

	// Reserved is what must survive beyond what Memory says.
	Reserved []Range

	// Total is what the running kernel counts as RAM, in bytes: MemTotal of
	// /proc/meminfo. 0: all RAM of Memory.
	Total uint64
}

// ErrPlacement means that a rule of placement is not or cannot be kept.
var ErrPlacement = errors.New("a rule of placement cannot be kept")

// PlacementError says which piece breaks which rule. It wraps ErrPlacement.
type PlacementError struct {
	Piece   Piece
	At      Range  // where the piece was put; empty: nowhere
	Rule    string // name in the table of rules
	Largest uint64 // bytes of the largest piece like it that could be placed
}

func (e *PlacementError) Error() string {
	if e.At.Size > 0 {
		return fmt.Sprintf("kexecseg: %s at %v breaks the rule %q", e.Piece.Name, e.At, e.Rule)
	}
	return fmt.Sprintf("kexecseg: no place for %s of %d bytes by the rule %q; the largest that could be placed has %d bytes",
		e.Piece.Name, e.Piece.Size, e.Rule, e.Largest)
}

func (e *PlacementError) Unwrap() error { return ErrPlacement }

// Place finds a place for each piece, in the order given: what is hardest to
// place comes first. It returns their ranges in whole pages, in the same order. An
// error is a PlacementError for the first piece that has no place beside those
// before it.
func (p *Planner) Place(pieces ...Piece) ([]Range, error) {
	for _, piece := range pieces {
		if piece.oddlyAligned() {
			return nil, &PlacementError{Piece: piece, Rule: ruleAlignment}
		}
	}
	at := make([]Range, 0, len(pieces))
	pieces = slices.Clone(pieces)
	for i := range pieces {
		piece := &pieces[i]
		if piece.Size <= 1<<63 { // more has no place anyway
			piece.Size = max(roundUp(piece.Size, pageSize), pageSize)
		}
		r, ok := p.place(*piece, at)
		if !ok {
			return nil, p.refuse(*piece, at)
		}
		at = append(at, r)
	}
	return at, p.Check(pieces, at)
}

// place finds a place for one piece beside those placed before it.
func (p *Planner) place(piece Piece, before []Range) (Range, bool) {
	free := p.free(piece, before, nil)
	if !piece.Low {
		slices.Reverse(free)
	}
	if piece.Size > p.room(before) || len(before) == maxSegments {
		return Range{}, false
	}
	for _, f := range free {
		if start, ok := piece.fit(f); ok {
			return Range{start, piece.Size}, true
		}
	}
	return Range{}, false
}

// fit returns where in a free range the piece starts.
func (piece Piece) fit(f Range) (uint64, bool) {
	low, ok := piece.first(f)
	if !ok || piece.Size > f.End()-low {
		return 0, false
	}
	if piece.Low {
		return low, true
	}
	spare := f.End() - low - piece.Size
	return low + spare&^(piece.align()-1), true
}

// first returns the lowest address in f at which the piece may start.
func (piece Piece) first(f Range) (uint64, bool) {
	align := piece.align()
	start := f.Start&^(align-1) + piece.Offset
	if start < f.Start {
		start += align
	}
	return start, start >= f.Start && start < f.End()
}

func (piece Piece) align() uint64 { return max(piece.Align, pageSize) }

// oddlyAligned reports whether no place could keep ruleAlignment.
func (piece Piece) oddlyAligned() bool {
	align := piece.align()
	return align&(align-1) != 0 || piece.Offset >= align || piece.Offset%pageSize != 0
}

// free returns, sorted, where no rule denies the piece a place. Without the rules
// from until on, when it is not nil.
func (p *Planner) free(piece Piece, before []Range, until *rule) []Range {
	var denied []Range
	table := rules()
	for i := range table {
		if until != nil && table[i].name == until.name {
			break
		}
		if deny := table[i].deny; deny != nil {
			denied = append(denied, deny(p, piece, before)...)
		}
	}
	return complement(denied)
}

// refuse finds the rule by which the piece has no place: the first in the table
// with which there is none left.
func (p *Planner) refuse(piece Piece, before []Range) error {
	e := &PlacementError{Piece: piece}
	for _, f := range p.free(piece, before, nil) {
		if low, ok := piece.first(f); ok {
			e.Largest = max(e.Largest, (f.End()-low)&^(pageSize-1))
		}
	}
	e.Largest = min(e.Largest, p.room(before)&^(pageSize-1))
	if len(before) == maxSegments {
		e.Largest = 0
	}
	table := rules()
	for i, r := range table {
		e.Rule = r.name
		if r.deny == nil {
			if r.broken(p, append(slices.Clone(before), Range{0, piece.Size})) {
				return e
			}
			continue
		}
		var next *rule
		if i+1 < len(table) {
			next = &table[i+1]
		}
		if !slices.ContainsFunc(p.free(piece, before, next), func(f Range) bool {
			_, ok := piece.fit(f)
			return ok
		}) {
			return e
		}
	}
	return e
}

// Check applies every rule to pieces placed by whomever, each at the range of its
// number. The errors are PlacementErrors, joined, but for another number of ranges.
func (p *Planner) Check(pieces []Piece, at []Range) error {
	if len(pieces) != len(at) {
		return fmt.Errorf("kexecseg: %w: %d pieces at %d ranges", ErrPlacement, len(pieces), len(at))
	}
	var errs []error
	for i, piece := range pieces {
		for _, r := range rules() {
			broken := false
			if r.deny != nil {
				others := slices.Delete(slices.Clone(at), i, i+1)
				broken = slices.ContainsFunc(r.deny(p, piece, others), at[i].Overlaps)
			} else {
				broken = r.broken(p, at[:i+1])
			}
			if broken {
				errs = append(errs, &PlacementError{Piece: piece, At: at[i], Rule: r.name})
			}
		}
		if at[i].Size < piece.Size || at[i].Size == 0 || at[i].Size%pageSize != 0 {
			errs = append(errs, &PlacementError{Piece: piece, At: at[i], Rule: ruleSize})
		}
		if piece.oddlyAligned() {
			errs = append(errs, &PlacementError{Piece: piece, At: at[i], Rule: ruleAlignment})
		} else if at[i].Start%piece.align() != piece.Offset {
			errs = append(errs, &PlacementError{Piece: piece, At: at[i], Rule: ruleAligned})
		}
	}
	return errors.Join(errs...)
}

// room is how much of RAM may still be used.
func (p *Planner) room(before []Range) uint64 {
	limit := p.total() / 2 &^ (pageSize - 1)
	for _, r := range before {
		if r.Size > limit {
			return 0
		}
		limit -= r.Size
	}
	return limit
}

func (p *Planner) total() uint64 {
	if p.Total > 0 {
		return p.Total
	}
	var n uint64
	for _, r := range p.ram() {
		n += r.Size
	}
	return n
}

// ram returns everything that is RAM to the next kernel, merged where it touches.
func (p *Planner) ram() []Range {
	var out []Range
	for _, r := range p.Memory {
		if r.Type.IsRAM() {
			out = append(out, r.Range)
		}
	}
	return merge(out)
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

// merge sorts ranges and joins those that touch or overlap.
func merge(ranges []Range) []Range {
	ranges = slices.DeleteFunc(slices.Clone(ranges), func(r Range) bool { return r.Size == 0 })
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	var out []Range
	for _, r := range ranges {
		if n := len(out); n > 0 && r.Start <= out[n-1].End() {
			out[n-1].Size = max(out[n-1].End(), r.End()) - out[n-1].Start
			continue
		}
		out = append(out, r)
	}
	return out
}

// complement returns what the ranges leave of the address space.
func complement(ranges []Range) []Range {
	var out []Range
	at := uint64(0)
	for _, r := range merge(ranges) {
		if r.Start > at {
			out = append(out, Range{at, r.Start - at})
		}
		at = r.End()
	}
	if top := ^uint64(0); at < top {
		out = append(out, Range{at, top - at})
	}
	return out
}
