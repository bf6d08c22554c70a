package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// A verdict is what checking a list comes to.
type verdict struct {
	PCR     uint32        `json:"pcr"`
	Records int           `json:"records"`
	Boots   []int         `json:"boots"` // index of the first record of each
	Banks   []bankVerdict `json:"banks,omitempty"`
	// Proved is the number of records that the values prove, in every bank that
	// could be checked; 0: none.
	Proved   int       `json:"proved"`
	Findings []finding `json:"findings,omitempty"`
	// Aggregates is how many records boot_aggregate are those of PCRs 0 to 9.
	Aggregates int            `json:"boot_aggregates,omitempty"`
	Audit      *events.Report `json:"audit,omitempty"`
	Good       bool           `json:"good"` // exit status 0
	Reason     string         `json:"reason"`
}

// bankVerdict is what a list proves in one bank.
type bankVerdict struct {
	Bank    string   `json:"bank"`
	Verdict string   `json:"verdict"` // match, prefix, unused, explained, mismatch, unchecked
	Records int      `json:"records"` // that yield Want; 0: none do
	Want    hexBytes `json:"want"`
	Got     hexBytes `json:"got,omitempty"`    // what all the records yield
	Padded  []int    `json:"padded,omitempty"` // boots in which the kernel padded SHA-1 digests, from 1
}

// finding is what is wrong with a list.
type finding struct {
	Kind   string   `json:"kind"`
	Record int      `json:"record"`
	Text   string   `json:"text"`
	Banks  []string `json:"banks,omitempty"` // which prove it
}

// Verdicts on a bank.
const (
	matches   = "match"
	prefix    = "prefix"
	unused    = "unused"    // the PCR has the value that it begins with
	explained = "explained" // no match, but with what was found it would be
	mismatch  = "mismatch"
	unchecked = "unchecked"
)

// judge turns a replay into a verdict. early allows values that were read before
// the last records were measured, but not before the first so many were: least.
func judge(res *imalog.Result, start imalog.Values, pcr uint32, early bool, least int) *verdict {
	v := &verdict{PCR: pcr, Records: res.Records, Boots: res.Boots}
	wrong := 0
	for i := range res.Banks {
		v.Banks = append(v.Banks, judgeBank(&res.Banks[i], start, res.Records))
	}
	for _, f := range res.Findings {
		if f.Kind == imalog.FindingDigest {
			wrong++
		}
		g := finding{Kind: f.Kind.String(), Record: f.Record, Text: f.String()}
		for _, alg := range f.Banks {
			g.Banks = append(g.Banks, imalog.AlgName(alg))
		}
		v.Findings = append(v.Findings, g)
	}
	checked, differing, fresh := 0, []string(nil), []string(nil)
	for _, b := range v.Banks {
		switch {
		case b.Verdict == unchecked:
			continue
		case b.Verdict == mismatch || b.Verdict == explained:
			differing = append(differing, b.Bank)
		case b.Verdict == unused:
			fresh = append(fresh, b.Bank)
		}
		if checked == 0 || b.Records < v.Proved {
			v.Proved = b.Records
		}
		checked++
	}
	proved := fmt.Sprintf("the first %d of %d", v.Proved, v.Records)
	switch {
	case v.Records == 0:
		v.Reason, v.Findings = "the list is empty", nil
	case checked == 0:
		v.Reason = "there is a hash for none of the banks"
	case len(differing) > 0:
		v.Reason = "the list does not yield " + strings.Join(differing, ", ")
	case len(fresh) > 0:
		v.Reason = fmt.Sprintf("nothing was extended into PCR %d in %s", v.PCR, strings.Join(fresh, ", "))
	case wrong > 0:
		v.Reason = fmt.Sprintf("%s in the list", count(wrong, "wrong template digest"))
	case v.Proved == v.Records:
		v.Good, v.Reason = true, fmt.Sprintf("%s, in %s", count(v.Records, "record"), count(checked, "bank"))
	case !early:
		v.Reason = proved + " records only; -prefix takes values that were read before the last records were measured"
	case differ(v.Banks):
		v.Reason = "the banks were read at different times: " + proved + " records in all of them"
	case v.Proved < least:
		v.Reason = fmt.Sprintf("%s records only, and %d were there before the values were read", proved, least)
	default:
		v.Good, v.Reason = true, fmt.Sprintf("%s records, in %s; the others are later than the values", proved, count(checked, "bank"))
	}
	return v
}

func judgeBank(b *imalog.BankResult, start imalog.Values, records int) bankVerdict {
	from := start[b.Alg]
	if from == nil {
		from = make([]byte, imalog.AlgSize(b.Alg))
	}
	v := bankVerdict{Bank: imalog.AlgName(b.Alg), Verdict: mismatch, Want: b.Want, Got: b.Got}
	switch {
	case !b.Checked:
		v.Verdict, v.Got = unchecked, nil
	case bytes.Equal(b.Want, from):
		v.Verdict = unused // any list has a beginning that yields this
	case b.Match:
		v.Verdict, v.Records = matches, records
	case b.Prefix >= 0:
		v.Verdict, v.Records = prefix, b.Prefix
	case b.Explained:
		v.Verdict, v.Got = explained, nil
	}
	for i, padded := range b.Padded {
		if padded {
			v.Padded = append(v.Padded, i+1)
		}
	}
	return v
}

// differ reports whether the banks prove different numbers of records.
func differ(banks []bankVerdict) bool {
	last := -1
	for _, b := range banks {
		if b.Verdict == unchecked {
			continue
		}
		if last >= 0 && b.Records != last {
			return true
		}
		last = b.Records
	}
	return false
}

// blame lets an audit count: it is bad when records were lost.
func (v *verdict) blame(r *events.Report) {
	v.Audit = r
	for i := range r.Boundaries {
		switch b := &r.Boundaries[i]; b.Verdict {
		case events.Lost, events.Truncated, events.Unproved:
			if v.Good || v.Reason == "" {
				v.Reason = fmt.Sprintf("%v at record %d", b.Verdict, b.Record)
			}
			v.Good = false
			return
		}
	}
}

// aggregates compares each boot_aggregate with the PCRs 0 to 9 that it was made
// from, as far as their values are known. That of the last boot must fit: the PCRs
// do not change while a kernel runs. A loader may have measured the next kernel into
// them before a soft reboot.
func (v *verdict) aggregates(list sequence, pcrs imalog.PCRs) error {
	if len(pcrs[0]) == 0 {
		return nil
	}
	i, wrong := 0, -1
	for rec, err := range list {
		if err != nil {
			return err
		}
		_, _, err := imalog.CheckBootAggregate(&rec, pcrs, nil)
		switch {
		case err == nil:
			v.Aggregates++
			wrong = -1
		case errors.Is(err, imalog.ErrNoTPM), errors.Is(err, imalog.ErrAggregate):
			v.Findings = append(v.Findings, finding{Kind: "boot_aggregate", Record: i, Text: fmt.Sprintf("record %d: %s", i, message(err))})
			if wrong = -1; errors.Is(err, imalog.ErrAggregate) {
				wrong = i
			}
		case !errors.Is(err, imalog.ErrNoAggregate):
			wrong = -1 // of this boot nothing can be said
		}
		i++
	}
	if v.Good && wrong >= 0 {
		v.Good, v.Reason = false, fmt.Sprintf("record %d is the boot_aggregate of another boot or machine", wrong)
	}
	return nil
}

// print shows a verdict to people: a line for each bank, and the last one is the
// result.
func (v *verdict) print(w io.Writer) error {
	var b strings.Builder
	if v.Banks != nil {
		fmt.Fprintf(&b, "PCR %d, %s, %s\n", v.PCR, count(v.Records, "record"), count(len(v.Boots), "boot"))
	}
	for _, bank := range v.Banks {
		word := bank.Verdict
		switch word {
		case mismatch, explained, unused:
			word = strings.ToUpper(word)
		case prefix:
			word = fmt.Sprintf("first %d", bank.Records)
		}
		fmt.Fprintf(&b, "%-6s  %-9s  %x", bank.Bank, word, []byte(bank.Want))
		if len(bank.Padded) > 0 && bank.Verdict != mismatch {
			fmt.Fprintf(&b, "  padded SHA-1 in %s", ranges(bank.Padded))
		}
		b.WriteByte('\n')
		if bank.Verdict == mismatch {
			fmt.Fprintf(&b, "%-6s  %-9s  %x\n", "", "replayed", []byte(bank.Got))
		}
	}
	if v.Aggregates > 0 {
		fmt.Fprintf(&b, "boot_aggregate is that of PCRs 0 to 9 in %s\n", count(v.Aggregates, "boot"))
	}
	for _, f := range v.Findings {
		fmt.Fprintf(&b, "found: %s\n", f.Text)
	}
	if v.Audit != nil {
		text, err := v.Audit.AppendText(nil)
		if err != nil {
			return err
		}
		b.Write(text)
	}
	if v.Banks != nil {
		word := "NOT PROVED"
		if v.Good {
			word = "proved"
		}
		fmt.Fprintf(&b, "%s: %s\n", word, v.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ranges lists numbers of boots, "boots 1-3, 5".
func ranges(n []int) string {
	var parts []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", n[i], n[j]))
		} else {
			parts = append(parts, fmt.Sprint(n[i]))
		}
		i = j + 1
	}
	word := "boots "
	if len(n) == 1 {
		word = "boot "
	}
	return word + strings.Join(parts, ", ")
}

func (v *verdict) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// A check is a list and what it is checked against.
type check struct {
	pcr    uint32
	pcrs   imalog.PCRs   // what is known of all PCRs
	want   imalog.Values // of pcr, in the banks that matter; nil: nothing
	start  imalog.Values
	banks  []uint16 // nil: those of want
	listed uint16   // of the template digests; 0: by their size
	early  bool
	least  int // so many records were in the list before the values were read
	audit  bool
}

func (c *check) run(ctx context.Context, list sequence) (*verdict, error) {
	opts := &imalog.ReplayOptions{PCR: c.pcr, Banks: c.banks, Start: c.start, Listed: c.listed}
	v := &verdict{PCR: c.pcr, Good: true}
	if c.want != nil {
		res, err := imalog.Verify(ctx, list, c.want, opts)
		if err != nil {
			return nil, err
		}
		v = judge(res, c.start, c.pcr, c.early, c.least)
		if err := v.aggregates(list, c.pcrs); err != nil {
			return nil, err
		}
	}
	if c.audit {
		report, err := events.Audit(ctx, list, &events.AuditOptions{Want: c.want, Replay: opts})
		if err != nil {
			return nil, err
		}
		if v.Banks == nil {
			v.Records = report.Records
			for i := range report.Boundaries {
				v.Boots = append(v.Boots, report.Boundaries[i].Record)
			}
		}
		v.blame(report)
	}
	return v, nil
}
