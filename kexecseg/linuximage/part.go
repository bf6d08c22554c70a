package linuximage

import (
	"context"
	"errors"
	"fmt"

	"github.com/imakexec/imakexec/kexecseg"
)

const pageSize = 4096

func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

// part becomes a segment.
type part struct {
	kexecseg.Piece
	bytes uint64                 // of Size; what is after them is zero
	fill  func(buf []byte) error // reads them; nil: they are written later

	kexecseg.Segment // once assembled
}

// assemble places the parts, hardest first, and only then allocates and reads
// them. Nil parts are left out.
func assemble(ctx context.Context, planner *kexecseg.Planner, parts ...*part) ([]kexecseg.Segment, error) {
	var pieces []kexecseg.Piece
	var there []*part
	for _, p := range parts {
		if p != nil {
			pieces, there = append(pieces, p.Piece), append(there, p)
		}
	}
	at, err := planner.Place(pieces...)
	if err != nil {
		return nil, err
	}
	var segments []kexecseg.Segment
	for i, p := range there {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p.Segment = kexecseg.Segment{Buf: make([]byte, p.bytes), Phys: at[i]}
		if p.fill != nil {
			if err := p.fill(p.Buf); err != nil {
				return nil, fmt.Errorf("linuximage: %s: %w", p.Name, err)
			}
		}
		segments = append(segments, p.Segment)
	}
	return segments, nil
}

// hasNoPlace reports whether an error of assemble is that of this part, if there is one.
func (p *part) hasNoPlace(err error) bool {
	var none *kexecseg.PlacementError
	return p != nil && errors.As(err, &none) && none.Piece.Name == p.Name
}
