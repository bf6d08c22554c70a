package kexecseg

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// audit says what is wrong with a plan. It shares no code with the planner's rules.
func audit(p *Planner, pieces []Piece, at []Range) error {
	var ram, sum, top, free uint64
	for _, r := range p.Memory {
		if r.Type == RAM || r.Type == Kept || r.Type == CrashKernel {
			ram += r.Size
			top = r.Start + r.Size
		}
		if r.Type == RAM {
			free = r.Start + r.Size
		}
	}
	if p.Total > 0 {
		ram = p.Total
	}
	if len(at) != len(pieces) || len(at) > 16 {
		return fmt.Errorf("%d ranges for %d pieces", len(at), len(pieces))
	}
	for i, r := range at {
		sum += r.Size
		piece := pieces[i]
		align := max(piece.Align, 4096)
		switch last := r.Start + r.Size; {
		case last < r.Start:
			return fmt.Errorf("%s leaves the address space", piece.Name)
		case r.Size < piece.Size || r.Size%4096 != 0:
			return fmt.Errorf("%s has %d bytes of %d", piece.Name, r.Size, piece.Size)
		case (r.Start-piece.Offset)%align != 0:
			return fmt.Errorf("%s at %v is not aligned to %#x+%#x", piece.Name, r, align, piece.Offset)
		case r.Start < piece.Min || piece.Max > 0 && last > piece.Max:
			return fmt.Errorf("%s at %v is not within %#x and %#x", piece.Name, r, piece.Min, piece.Max)
		case last > top-64<<10:
			return fmt.Errorf("%s at %v is in the last 64 KiB below %#x", piece.Name, r, top)
		case last > free-64<<10 && r.Start < free:
			return fmt.Errorf("%s at %v is in the last 64 KiB below %#x", piece.Name, r, free)
		case r.Size > ram/2 || sum > ram/2:
			return fmt.Errorf("%s brings the sum to %d of %d", piece.Name, sum, ram)
		}
		// Walk the memory below the piece: each byte must be RAM, and none kept.
		next := r.Start
		for _, m := range p.Memory {
			if m.Type == RAM && m.Start <= next && next < m.Start+m.Size {
				next = m.Start + m.Size
			}
		}
		if next < r.Start+r.Size {
			return fmt.Errorf("%s at %v is not RAM at %#x", piece.Name, r, next)
		}
		for _, x := range append(slices.Clone(p.Reserved), at[:i]...) {
			if r.Start < x.Start+x.Size && x.Start < r.Start+r.Size {
				return fmt.Errorf("%s at %v overlaps %v", piece.Name, r, x)
			}
		}
	}
	return nil
}

// naive places everything top-down below the end of RAM, as if RAM had no holes.
func naive(p *Planner, pieces []Piece) []Range {
	var end uint64
	for _, r := range p.Memory {
		if r.Type == RAM {
			end = r.End()
		}
	}
	at := make([]Range, len(pieces))
	for i, piece := range pieces {
		size := roundUp(piece.Size, 4096)
		end = (end - size) &^ (piece.align() - 1)
		at[i] = Range{end, size}
	}
	return at
}

// kernelPieces are the pieces of a Debian kernel with an initrd and a list.
func kernelPieces(min uint64, initrd uint64) []Piece {
	return []Piece{
		{Name: "kernel", Size: 57 << 20, Align: 2 << 20, Min: min, Low: true},
		{Name: "initrd", Size: initrd, Min: min},
		{Name: "IMA buffer", Size: 5 << 12, Min: min},
		{Name: "boot parameters", Size: 8000, Min: min},
	}
}

func TestPlaceInCapturedMaps(t *testing.T) {
	caught := 0
	for name, fsys := range captured(t) {
		p := &Planner{Memory: readMap(t, fsys), Total: 970 << 20}
		for _, initrd := range []uint64{1, 30 << 20, 150 << 20, 400 << 20} {
			pieces := kernelPieces(16<<20, initrd)
			at, err := p.Place(pieces...)
			if err != nil {
				t.Errorf("%s, initrd of %d: %v\n%v", name, initrd, err, p.Memory)
				continue
			}
			if err := audit(p, pieces, at); err != nil {
				t.Errorf("%s, initrd of %d: %v\n%v", name, initrd, err, p.Memory)
			}
			if !slices.ContainsFunc(at, func(r Range) bool { return r.End() > 900<<20 }) {
				t.Errorf("%s: nothing is high: %v", name, at)
			}
			bad := naive(p, pieces)
			if (p.Check(pieces, bad) == nil) != (audit(p, pieces, bad) == nil) {
				t.Errorf("%s: Check says %v, audit %v", name, p.Check(pieces, bad), audit(p, pieces, bad))
			}
			if p.Check(pieces, bad) != nil {
				caught++
			}
		}
	}
	if caught < 50 {
		t.Errorf("the naive planner was caught %d times only", caught)
	}
}

// A SETUP_IMA node that touches the last pages of RAM hung Linux 6.12 in early boot.
func TestLastPages(t *testing.T) {
	p := &Planner{Memory: readMap(t, captured(t)["big_6.12-cloud_big"])}
	piece := Piece{Name: "IMA buffer", Size: 2 << 12}
	err := p.Check([]Piece{piece}, []Range{{0x3ffcd000, 2 << 12}})
	var e *PlacementError
	if !errors.As(err, &e) || !strings.Contains(e.Rule, "last 64 KiB") {
		t.Errorf("the placement that hangs: %v", err)
	}
	at, err := p.Place(piece)
	if want := (Range{0x3ffbd000, 2 << 12}); err != nil || at[0] != want {
		t.Errorf("placed at %v, %v, want %v", at, err, want)
	}
}

// randomMap makes a machine of RAM, holes and what else firmware has, with edges
// that are not always at a page.
func randomMap(r *rand.Rand) *Planner {
	p := &Planner{}
	at := uint64(0)
	edge := func() uint64 {
		n := uint64(1) << (8 + r.IntN(23))
		n += r.Uint64N(n)
		if r.IntN(4) > 0 {
			n = roundUp(n, 4096)
		}
		return n
	}
	for range 1 + r.IntN(20) {
		if r.IntN(3) == 0 {
			at += edge()
		}
		types := []MemoryType{RAM, RAM, RAM, RAM, Reserved, ACPITables, ACPINVS, Kept, CrashKernel, "PCI Bus 0000:00"}
		size := edge()
		p.Memory = append(p.Memory, MemoryRange{Range{at, size}, types[r.IntN(len(types))]})
		at += size
	}
	p.Memory, _ = p.Memory.normalize()
	for range r.IntN(3) {
		p.Reserved = append(p.Reserved, Range{r.Uint64N(at), edge()})
	}
	if r.IntN(3) == 0 {
		p.Total = at / 2
	}
	return p
}

func randomPieces(r *rand.Rand) []Piece {
	pieces := make([]Piece, 1+r.IntN(17))
	for i := range pieces {
		piece := Piece{Name: fmt.Sprintf("piece %d", i), Size: 1 + r.Uint64N(1<<(4+r.IntN(26))), Low: r.IntN(2) == 0}
		if r.IntN(3) == 0 {
			piece.Align = 4096 << r.IntN(12)
			if r.IntN(3) == 0 {
				piece.Offset = r.Uint64N(piece.Align) &^ 4095
			}
		}
		if r.IntN(3) == 0 {
			piece.Min = r.Uint64N(1 << 30)
		}
		if r.IntN(3) == 0 {
			piece.Max = piece.Min + r.Uint64N(1<<31)
		}
		pieces[i] = piece
	}
	return pieces
}

// Every plan keeps every rule; where there is none, the error names the rule and
// the largest piece with which there would be one.
func TestPlaceInGeneratedMaps(t *testing.T) {
	placed, refused, caught := 0, map[string]int{}, 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 5))
		p := randomMap(r)
		pieces := randomPieces(r)
		at, err := p.Place(pieces...)
		if err == nil {
			placed++
			if err := audit(p, pieces, at); err != nil {
				t.Fatalf("seed %d: %v\n%v", seed, err, p.Memory)
			}
		} else {
			checkRefusal(t, seed, p, pieces, err, refused)
		}
		bad := naive(p, pieces)
		if said, is := p.Check(pieces, bad), audit(p, pieces, bad); (said == nil) != (is == nil) {
			t.Fatalf("seed %d: Check says %v, audit %v\n%v", seed, said, is, p.Memory)
		} else if said != nil {
			caught++
		}
	}
	t.Logf("%d placed, refused by rule: %v, naive planner caught %d times", placed, refused, caught)
	if placed < 300 || caught < 1000 {
		t.Errorf("%d placed, naive planner caught %d times", placed, caught)
	}
	for _, rule := range rules() {
		if refused[rule.name] == 0 {
			t.Errorf("no map was refused by the rule %q", rule.name)
		}
	}
}

func checkRefusal(t *testing.T, seed uint64, p *Planner, pieces []Piece, err error, refused map[string]int) {
	t.Helper()
	var e *PlacementError
	if !errors.As(err, &e) || !errors.Is(err, ErrPlacement) {
		t.Fatalf("seed %d: %v", seed, err)
	}
	refused[e.Rule]++
	i := slices.IndexFunc(pieces, func(piece Piece) bool { return piece.Name == e.Piece.Name })
	before := slices.Clone(pieces[:i+1])
	if e.Largest > 0 {
		before[i].Size = e.Largest
		at, err := p.Place(before...)
		if err != nil {
			t.Fatalf("seed %d: %v, and the largest is refused: %v\n%v", seed, e, err, p.Memory)
		}
		if err := audit(p, before, at); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	before[i].Size = e.Largest + 1
	if at, err := p.Place(before...); err == nil {
		t.Fatalf("seed %d: %v, and one of %d is placed at %v\n%v", seed, e, before[i].Size, at[i], p.Memory)
	}
}

func TestPlaceRefusals(t *testing.T) {
	memory := MemoryMap{
		{Range{0, 1 << 20}, Reserved},
		{Range{1 << 20, 255 << 20}, RAM},
		{Range{256 << 20, 64 << 20}, CrashKernel},
		{Range{320 << 20, 1 << 20}, ACPITables},
		{Range{321 << 20, 279 << 20}, RAM},
	}
	const largest = 279<<20 - 64<<10 // of the last range
	for name, c := range map[string]struct {
		piece   Piece
		total   uint64
		rule    string
		largest uint64
	}{
		"larger than any range":         {Piece{Size: 330 << 20}, 2 << 30, "lies inside one System RAM range", largest},
		"larger than what is not kept":  {Piece{Size: 300 << 20}, 2 << 30, "lies clear of what must survive", largest},
		"all of the last range":         {Piece{Size: 279 << 20, Min: 256 << 20}, 2 << 30, "lies clear of the last 64 KiB of RAM", largest},
		"bounds less than a page apart": {Piece{Size: 4096, Min: 10 << 20, Max: 10<<20 + 4095}, 2 << 30, "lies within its bounds", 0},
		"more than half":                {Piece{Size: 270 << 20}, 500 << 20, "takes, with the others, at most half of RAM", 250 << 20},
		"more than there is":            {Piece{Size: ^uint64(0)}, 2 << 30, "lies inside one System RAM range", largest},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := (&Planner{Memory: memory, Total: c.total}).Place(c.piece)
			var e *PlacementError
			if !errors.As(err, &e) || e.Rule != c.rule || e.Largest != c.largest {
				t.Errorf("%v, want the rule %q and %d", err, c.rule, c.largest)
			}
		})
	}
}

// What is no alignment is refused, placed or not, and wherever it lies.
func TestOddAlignment(t *testing.T) {
	p := &Planner{Memory: MemoryMap{{Range{0, 1 << 30}, RAM}}}
	odd := func(err error) bool {
		var e *PlacementError
		return errors.As(err, &e) && e.Rule == ruleAlignment
	}
	for name, piece := range map[string]Piece{
		"no power of two":      {Align: 3 * pageSize},
		"a bit too many":       {Align: 2<<20 + 4},
		"offset of the align":  {Align: 2 << 20, Offset: 2 << 20},
		"offset of a page":     {Offset: pageSize},
		"offset inside a page": {Align: 2 << 20, Offset: 8},
	} {
		piece.Size = pageSize
		if at, err := p.Place(piece); !odd(err) {
			t.Errorf("%s: placed at %v, %v", name, at, err)
		}
		for start := uint64(1 << 20); start < 1<<20+16*pageSize; start += pageSize {
			if err := p.Check([]Piece{piece}, []Range{{start, pageSize}}); !odd(err) {
				t.Errorf("%s: checked at %#x, %v", name, start, err)
			}
		}
	}
	for _, align := range []uint64{0, 16, 24, pageSize} { // less than a page is a page
		if at, err := p.Place(Piece{Size: 1, Align: align}); err != nil || at[0].Start%pageSize != 0 {
			t.Errorf("a multiple of %d: %v, %v", align, at, err)
		}
	}
	if err := p.Check([]Piece{{Size: 1}}, nil); !errors.Is(err, ErrPlacement) {
		t.Errorf("a piece at no range: %v", err)
	}
}

// A range that has no room for its piece is no place for it.
func TestCheckSize(t *testing.T) {
	p := &Planner{Memory: MemoryMap{{Range{0, 1 << 30}, RAM}}}
	for _, r := range []Range{{16 << 20, 0}, {16 << 20, 100}, {16 << 20, pageSize}, {16 << 20, 64<<20 + 1}, {1 << 40, 0}} {
		var e *PlacementError
		if err := p.Check([]Piece{{Name: "kernel", Size: 64 << 20}}, []Range{r}); !errors.As(err, &e) || e.Rule != ruleSize {
			t.Errorf("%v: %v", r, err)
		}
	}
	if err := p.Check([]Piece{{Name: "kernel", Size: 64<<20 - 1}}, []Range{{16 << 20, 64 << 20}}); err != nil {
		t.Error(err)
	}
}
