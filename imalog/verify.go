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
	End   *Replayer // state after the last record with the modes found: continue from here
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
	// Prefix is the largest number of records that yield Want, -1 if no prefix of
	// the list does. It is less than the list's for a value that was read, or
	// quoted, before the last records were measured.
	Prefix int
	Padded []bool // for each boot: extended with the padded SHA-1 digest
	Got    []byte // what the whole list yields
	Want   []byte
}

// Verify replays a list against the values of a PCR and finds, for each boot in
// it, whether the kernel hashed or padded a bank. It takes one pass where every
// bank is hashed, and more only for banks that do not match then, so list must be
// one that can be ranged over again.
//
// The error is that of the list or of the context, or a *RecordError for a
// record without a digest; that a bank does not match is no error.
func Verify(ctx context.Context, list iter.Seq2[Record, error], want Values, opts *ReplayOptions) (*Result, error) {
	o := ReplayOptions{}
	if opts != nil {
		o = *opts
	}
	if o.Banks == nil {
		for alg := range want {
			o.Banks = append(o.Banks, alg)
		}
		slices.Sort(o.Banks)
	}
	v := verifier{ctx: ctx, list: list, res: &Result{}}
	for _, alg := range o.Banks {
		if w, ok := want[alg]; ok {
			v.res.Banks = append(v.res.Banks, BankResult{Alg: alg, Prefix: -1, Want: bytes.Clone(w)})
		}
	}
	slices.SortFunc(v.res.Banks, func(a, b BankResult) int { return int(a.Alg) - int(b.Alg) })
	v.start = NewReplayer(&o)
	if err := v.hashed(); err != nil {
		return nil, err
	}
	if err := v.search(); err != nil {
		return nil, err
	}
	return v.res, nil
}

type verifier struct {
	ctx   context.Context
	list  iter.Seq2[Record, error]
	res   *Result
	start *Replayer
}

// each ranges over the list and tells of each record whether it begins a boot.
func (v *verifier) each(do func(i int, boot bool, rec *Record) error) (n int, err error) {
	i := 0
	for rec, err := range v.list {
		if err != nil {
			return i, err
		}
		if i&0xfff == 0 {
			if err := v.ctx.Err(); err != nil {
				return i, err
			}
		}
		if err := do(i, i == 0 || rec.BootAggregate(), &rec); err != nil {
			return i, err
		}
		i++
	}
	return i, nil
}

// hashed is the first pass: every bank as the options say.
func (v *verifier) hashed() (err error) {
	end := v.start.Clone()
	prefixes := func(n int) {
		for i := range v.res.Banks {
			b := &v.res.Banks[i]
			if bytes.Equal(end.Value(b.Alg), b.Want) {
				b.Prefix = n
			}
		}
	}
	prefixes(0)
	var offset int64
	v.res.Records, err = v.each(func(i int, boot bool, rec *Record) error {
		if boot {
			v.res.Boots = append(v.res.Boots, i)
		}
		if err := end.Add(rec); err != nil {
			return &RecordError{offset, i, err}
		}
		offset += int64(rec.BinarySize())
		prefixes(i + 1)
		return nil
	})
	if err != nil {
		return err
	}
	v.res.End = end
	for i := range v.res.Banks {
		b := &v.res.Banks[i]
		bank := end.bank(b.Alg)
		if bank == nil {
			continue
		}
		b.Checked = true
		b.Got = bytes.Clone(bank.buf[:bank.size])
		b.Match = b.Prefix == v.res.Records
		b.Padded = make([]bool, len(v.res.Boots))
		for j := range b.Padded {
			b.Padded[j] = bank.padded
		}
	}
	return nil
}

// A path is one assumption on which boots padded a bank.
type path struct {
	bank
	modes    []bool
	switches int
	prefix   int
}

// maxExtends bounds the work of one search: about two seconds.
const maxExtends = 1 << 24

// search looks for the modes of the banks that do not match when hashed: first
// those with the fewest changes from one boot to the next.
func (v *verifier) search() error {
	for i := range v.res.Banks {
		b := &v.res.Banks[i]
		if !b.Checked || b.Prefix >= 0 || b.Alg == AlgSHA1 {
			continue
		}
		for switches := 0; switches < max(1, len(v.res.Boots)); switches++ {
			if v.paths(switches) > maxExtends/max(1, v.res.Records) {
				break
			}
			found, err := v.try(b, switches)
			if err != nil {
				return err
			}
			if found {
				break
			}
		}
	}
	return nil
}

// paths returns how many assumptions there are with at most so many switches.
func (v *verifier) paths(switches int) int {
	boots := len(v.res.Boots)
	sum, c := 0, 1
	for k := 0; k <= switches && k < boots; k++ {
		if k > 0 {
			c = c * (boots - k) / k
		}
		sum += 2 * c
		if sum > maxExtends {
			break
		}
	}
	return sum
}

// try replays one bank on every assumption with at most so many switches.
func (v *verifier) try(res *BankResult, switches int) (bool, error) {
	first := *v.start.bank(res.Alg)
	var paths []path
	for _, padded := range []bool{false, true} {
		p := path{bank: first, prefix: -1}
		p.padded = padded
		paths = append(paths, p)
	}
	var best *path
	var bestPrefix = -1
	var sums [2][maxDigest]byte
	boot := -1
	_, err := v.each(func(i int, boots bool, rec *Record) error {
		if boots {
			boot++
			for j := range paths {
				p := &paths[j]
				if boot > 0 && p.switches < switches {
					q := *p
					q.modes = append(slices.Clone(p.modes), !p.padded)
					q.padded = !p.padded
					q.switches++
					paths = append(paths, q)
					p = &paths[j]
				}
				p.modes = append(p.modes, p.padded)
			}
		}
		if rec.PCR != v.start.pcr {
			return nil
		}
		if rec.Violation() {
			for j := range first.size {
				sums[0][j], sums[1][j] = 0xff, 0xff
			}
		} else {
			var buf [imaDigestInput]byte
			data, err := rec.digestInput(&buf)
			if err != nil {
				return err
			}
			for m, padded := range []bool{false, true} {
				first.padded = padded
				first.digest(data)
				copy(sums[m][:], first.buf[first.size:2*first.size])
			}
		}
		for j := range paths {
			p := &paths[j]
			m := 0
			if p.padded {
				m = 1
			}
			copy(p.buf[p.size:2*p.size], sums[m][:])
			p.extend()
			if bytes.Equal(p.buf[:p.size], res.Want) {
				p.prefix = i + 1
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	for j := range paths {
		if p := &paths[j]; p.prefix > bestPrefix {
			best, bestPrefix = p, p.prefix
		}
	}
	if best == nil {
		return false, nil
	}
	// Records of other PCRs behind the last one of this PCR belong to the prefix.
	res.Prefix = bestPrefix
	res.Match = bytes.Equal(best.buf[:best.size], res.Want)
	if res.Match {
		res.Prefix = v.res.Records
	}
	res.Padded = best.modes
	res.Got = bytes.Clone(best.buf[:best.size])
	end := v.res.End.bank(res.Alg)
	end.buf = best.buf
	end.padded = best.padded
	return true, nil
}
