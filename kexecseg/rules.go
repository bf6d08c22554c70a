package kexecseg

import "slices"

// rule is one rule of placement. deny says where no byte of a piece may lie beside
// the others; a rule that is about the whole plan has broken instead.
type rule struct {
	name   string
	deny   func(p *Planner, piece Piece, others []Range) []Range
	broken func(p *Planner, all []Range) bool
}

// ruleAligned holds by construction of every place; only Check can find it broken.
const ruleAligned = "starts where its alignment says"

// ruleSize holds by construction, too.
const ruleSize = "has room for the piece, in whole pages"

// ruleAlignment is about the piece alone.
const ruleAlignment = "has a power of two for its alignment and whole pages below it for its offset"

// lastBytes is what stays free at the end of RAM. Linux 6.1 and 6.12 hang in early
// boot when a setup_data node touches its last page: max_pfn stops below it.
const lastBytes = 64 << 10

// rules is the table. The planner keeps every rule and Check finds each that is
// not kept; kexec_load(2) itself looks at none but the last three and takes pieces
// that are not RAM, with which the next kernel dies without a word.
func rules() []rule {
	return []rule{
		{name: "lies inside one System RAM range", deny: func(p *Planner, _ Piece, _ []Range) []Range {
			return complement(p.ram())
		}},
		{name: "lies clear of what must survive", deny: func(p *Planner, _ Piece, _ []Range) []Range {
			kept := slices.Clone(p.Reserved)
			for _, r := range p.Memory {
				if r.Type == Kept || r.Type == CrashKernel {
					kept = append(kept, r.Range)
				}
			}
			return kept
		}},
		{name: "lies clear of the last 64 KiB of RAM", deny: func(p *Planner, _ Piece, _ []Range) []Range {
			// The next kernel may end where the firmware's RAM ends, or where this
			// one's does (mem=, trimmed by MTRRs).
			var last []Range
			for _, ram := range [][]Range{p.ram(), p.Memory.OfType(RAM)} {
				if n := len(ram); n > 0 {
					top := ram[n-1].End()
					last = append(last, Range{top - min(top, lastBytes), min(top, lastBytes)})
				}
			}
			return last
		}},
		{name: "lies within its bounds", deny: func(_ *Planner, piece Piece, _ []Range) []Range {
			out := []Range{{0, piece.Min}}
			if piece.Max > 0 {
				out = append(out, Range{piece.Max, ^uint64(0) - piece.Max})
			}
			return out
		}},
		{name: "lies clear of the other pieces", deny: func(_ *Planner, _ Piece, others []Range) []Range {
			return others
		}},
		{name: "is one of at most 16 segments", broken: func(_ *Planner, all []Range) bool {
			return len(all) > maxSegments
		}},
		{name: "takes, with the others, at most half of RAM", broken: func(p *Planner, all []Range) bool {
			last := len(all) - 1
			return all[last].Size > p.room(all[:last])
		}},
	}
}
