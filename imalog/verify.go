package imalog

import (
	"bytes"
	"context"
	"iter"
	"slices"
)

// A Result says what a list proves of a PCR.
type Result struct {
	Records int          // records in the list
	Banks   []BankResult // in order of algorithm
	// Boots are the indexes of the records that begin a boot: 0, and each
	// boot_aggregate behind it. A list whose oldest records were deleted begins
	// within a boot.
	Boots []int
	// Findings are what is wrong with the list as far as it can be proved, and
	// what explains that a bank does not match.
	Findings []Finding
	End      *Replayer // state after the last record with the modes found: continue from here
}

// Matched reports whether every wanted bank, at least one, has the value that the whole
// list yields.
func (r *Result) Matched() bool {
	for i := range r.Banks {
		if !r.Banks[i].Match {
			return false
		}
	}
	return len(r.Banks) > 0
}

// A BankResult is what a list proves of a PCR in one bank.
type BankResult struct {
	Alg uint16
	// Checked is false where there is no hash for the bank: nothing is known of
	// it then, and it is no match.
	Checked bool
	Match   bool // the whole list yields Want
	// Prefix is the largest number of records that yield Want, -1 if none was
	// found. It is less than the list's for a value that was read, or quoted,
	// before the last records were measured.
	Prefix int
	// Explained tells that the list does not yield Want, but would with what is
	// said in the findings that name this bank.
	Explained bool
	Padded    []bool // for each boot: extended with the padded SHA-1 digest
	Got       []byte // what the whole list yields
	Want      []byte
}

// Verify replays a list against the values of a PCR. It finds, for each boot in
// it, whether the kernel hashed or padded a bank, and looks for an explanation
// where a bank does not match.
//
// It takes one pass where every bank is hashed and matches, and more only for banks
// that do not, so list must be one that can be ranged over again. Each digest
// that is listed is checked in the first pass: see FindingDigest.
//
// The error is that of the list or of the context, or a *RecordError for a
// record that can have no digest; the Result is then that of the records before.
// That a bank does not match is no error.
func Verify(ctx context.Context, list iter.Seq2[Record, error], want Values, opts *ReplayOptions) (*Result, error) {
	all, err := VerifyEach(ctx, list, []Values{want}, opts)
	return all[0], err
}

// VerifyEach is Verify for several values of the PCR, such as quotes of
// different times, in one pass where it can be. There is a Result for each, in
// order.
func VerifyEach(ctx context.Context, list iter.Seq2[Record, error], want []Values, opts *ReplayOptions) ([]*Result, error) {
	v := newVerifier(list, want, opts)
	err := v.first(ctx)
	if err != nil {
		return v.results, err
	}
	for i := range v.results {
		if err := v.search(ctx, i); err != nil {
			return v.results, err
		}
	}
	return v.results, nil
}

type verifier struct {
	opts    ReplayOptions
	list    iter.Seq2[Record, error]
	results []*Result
	start   *Replayer
	seen    *engine // of the first pass
}

func newVerifier(list iter.Seq2[Record, error], want []Values, opts *ReplayOptions) *verifier {
	v := &verifier{list: list}
	if opts != nil {
		v.opts = *opts
	}
	if v.opts.Banks == nil {
		for _, w := range want {
			for alg := range w {
				if !slices.Contains(v.opts.Banks, alg) {
					v.opts.Banks = append(v.opts.Banks, alg)
				}
			}
		}
	}
	v.start = NewReplayer(&v.opts)
	for _, w := range want {
		r := &Result{End: v.start.Clone()}
		for _, alg := range v.opts.Banks {
			value, ok := w[alg]
			if !ok || r.bank(alg) != nil {
				continue
			}
			i := 0
			for i < len(r.Banks) && r.Banks[i].Alg < alg {
				i++
			}
			r.Banks = slices.Insert(r.Banks, i, BankResult{
				Alg: alg, Prefix: -1, Want: bytes.Clone(value), Checked: v.start.bank(alg) != nil,
			})
		}
		v.results = append(v.results, r)
	}
	return v
}

// bank returns the result of a bank, nil if it is not wanted.
func (r *Result) bank(alg uint16) *BankResult {
	for i := range r.Banks {
		if r.Banks[i].Alg == alg {
			return &r.Banks[i]
		}
	}
	return nil
}

// first is the pass in which every bank is as the options say.
func (v *verifier) first(ctx context.Context) error {
	e := newEngine(v.start, &v.opts)
	v.seen = e
	for _, l := range e.lanes {
		for _, r := range v.results {
			var want []byte
			if b := r.bank(l.alg); b != nil {
				want = b.Want
			}
			l.want = append(l.want, want)
		}
		l.paths[0].begin(l.want)
	}
	err := e.run(ctx, v.list)
	for i, r := range v.results {
		r.Records, r.Boots = e.records, slices.Clone(e.boots)
		r.End.count = v.start.count + e.records
		for _, l := range e.lanes {
			p := &l.paths[0]
			*r.End.bank(l.alg) = p.bank.clone()
			if b := r.bank(l.alg); b != nil {
				b.Padded = make([]bool, len(r.Boots))
				for k := range b.Padded {
					b.Padded[k] = p.padded
				}
				b.take(p, i, r.Records)
			}
		}
	}
	return err
}

// take notes what a path yields for a wanted value.
func (b *BankResult) take(p *path, want, records int) {
	b.Prefix = p.prefix[want]
	b.Match = b.Prefix == records
	b.Got = bytes.Clone(p.value())
}

// search looks for the assumptions under which the banks that do not match would: how each
// boot extended them, and where the list itself is wrong. Those with the fewest
// come first.
func (v *verifier) search(ctx context.Context, want int) error {
	r := v.results[want]
	s := search{v: v, res: r}
	whole := false
	for i := range r.Banks {
		b := &r.Banks[i]
		if b.Checked && b.Prefix < 0 {
			s.open = append(s.open, b)
		}
		// Nothing is proved by a value that the PCR begins with.
		whole = whole || b.Prefix > 0
	}
	if len(s.open) > 0 {
		if !whole {
			s.lead = s.open[0] // SHA-1 if it is there, whose mode is known
			s.guess = newGuesser(v.start.pcr)
		}
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	v.findings(r, s.guess)
	return nil
}

// A search tries assumptions about the banks that do not match.
type search struct {
	v     *verifier
	res   *Result
	open  []*BankResult // not found yet
	lead  *BankResult   // the one for which the list itself is doubted; nil: it is proved by another
	guess *guesser
	fixed []*choice // what was found about the list
	// Extends that are still worth it in each bank, over all passes: at most some
	// seconds' work.
	budget map[uint16]int
}

func (s *search) run(ctx context.Context) error {
	s.budget = map[uint16]int{}
	for _, b := range s.open {
		s.budget[b.Alg] = 1<<22 + 16*s.v.seen.records
	}
	for limit := 0; len(s.open) > 0; limit++ {
		found, more, err := s.pass(ctx, limit)
		if err != nil {
			return err
		}
		if found && s.lead == nil && s.fixed != nil {
			limit = -1 // the others again, with what was found about the list
			continue
		}
		if !more {
			return nil
		}
	}
	return nil
}

// pass replays the banks that are open, with at most so many assumptions each.
// It reports whether it found one that matches and whether more assumptions
// could help.
func (s *search) pass(ctx context.Context, limit int) (found, more bool, err error) {
	seen := s.v.seen
	opts := s.v.opts
	opts.Banks = nil
	for _, b := range s.open {
		opts.Banks = append(opts.Banks, b.Alg)
	}
	e := newEngine(NewReplayer(&opts), &opts)
	if s.lead != nil || s.fixed != nil {
		e.guess = s.guess.reset()
	}
	same := sameKernel(seen.kernels)
	for _, l := range e.lanes {
		b := s.res.bank(l.alg)
		l.want = [][]byte{b.Want}
		l.limit = limit + len(s.fixed)
		l.searched = true
		l.budget = s.budget[l.alg]
		l.same = same
		l.fixed = s.fixed
		l.modes = l.alg != AlgSHA1
		l.list = b == s.lead
		l.extra = b == s.lead && limit == 1 && seen.records < extraRecords
		l.paths[0].begin(l.want)
		if l.modes {
			l.sha1 = e.hasher(AlgSHA1)
			p := l.paths[0]
			p.prefix = slices.Clone(p.prefix)
			p.padded = !p.padded
			l.paths = append(l.paths, p)
		}
	}
	if err := e.run(ctx, s.v.list); err != nil {
		return false, false, err
	}
	var open []*BankResult
	for _, l := range e.lanes {
		b := s.res.bank(l.alg)
		if p := l.best(0); p != nil {
			s.accept(b, p)
			found = true
			continue
		}
		open = append(open, b)
		s.budget[l.alg] = l.budget
		possible := 0
		if l.modes {
			possible += len(seen.boots) - 1
		}
		if l.list {
			possible += len(seen.boots) - 1 + len(seen.bad) + seen.violations
		}
		if l.list && seen.records < extraRecords {
			possible = max(possible, 1)
		}
		more = more || !l.spent && limit < possible
	}
	s.open = open
	return found, more, nil
}

// extraRecords is the length of the lists in which a record that was never
// extended is looked for: as many paths as records.
const extraRecords = 2000

// accept takes a path over into the result.
func (s *search) accept(b *BankResult, p *path) {
	b.Padded = p.padding
	b.Got = bytes.Clone(p.value())
	end := s.res.End.bank(b.Alg)
	end.padded = p.padded
	lead := b == s.lead
	if lead {
		s.lead = nil
	}
	var about []*choice
	for c := p.last; c != nil; c = c.before {
		if c.kind != choiceMode {
			about = append(about, c)
		}
	}
	if len(about) == 0 {
		b.take(p, 0, s.res.Records)
		end.buf = p.buf
		return
	}
	b.Explained = true
	for _, c := range about {
		s.res.find(c, b.Alg, s.guess)
	}
	if lead {
		s.fixed = about
	}
}

// sameKernel returns for each boot the last one before it of the same kernel, by the
// version that it has measured; -1 where there is none.
func sameKernel(kernels []string) []int {
	before := make([]int, len(kernels))
	last := map[string]int{}
	for i, k := range kernels {
		before[i] = -1
		if k == "" {
			continue
		}
		if j, ok := last[k]; ok {
			before[i] = j
		}
		last[k] = i
	}
	return before
}
