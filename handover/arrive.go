package handover

import (
	"context"
	"fmt"

	"github.com/imakexec/imakexec/events"
)

// Verdict says how the measurement list came into the present boot.
type Verdict string

const (
	// ColdBoot: the list holds one boot and replays.
	ColdBoot Verdict = "cold boot"

	// Complete: the list holds several boots and replays, so nothing was lost.
	Complete Verdict = "complete"

	// Lost: records that the PCR holds are not in the list.
	Lost Verdict = "lost"

	// Truncated: the last kexec_execute counts more records than arrived before it.
	Truncated Verdict = "truncated"

	// Unproved: no PCR could be read, so the list can be neither proved nor doubted.
	Unproved Verdict = "unproved"
)

// Report is what Arrive found.
type Report struct {
	Verdict Verdict

	// Boots is the number of boot_aggregate records in the list.
	Boots int

	// Since is the index of the first record after the gap, for Lost and Truncated;
	// see Proof.Since.
	Since int

	// KexecLoad and KexecExecute are the indices of the events of the last soft
	// reboot, those before the last boot_aggregate; -1 when there are none.
	KexecLoad, KexecExecute int

	// Between is the number of records that were measured after Load and before
	// kexec_execute, as the counts of the two events have it, the event itself not
	// counted; 0 without both events.
	Between int

	// Missing is the number of records that kexec_execute counts and that did not
	// arrive.
	Missing int

	// List is the list that was judged.
	List *List
}

// Arrive reads the list and the PCR and says how the list came here: in a kernel
// that was just started, or at any later moment of its life. It changes nothing.
func Arrive(ctx context.Context, opts *ReadOptions) (*Report, error) {
	o := opts.withDefaults()
	list, step, err := readList(ctx, &o)
	if err != nil {
		return nil, &OpError{Op: "arrive", Step: step, Err: err}
	}
	r := &Report{List: list, KexecLoad: -1, KexecExecute: -1}
	if err := r.findEvents(); err != nil {
		return nil, &OpError{Op: "arrive", Step: "read events", Err: err}
	}
	switch {
	case len(list.Proof.Banks) == 0:
		r.Verdict = Unproved
	case list.Proof.Proved && r.Boots <= 1:
		r.Verdict = ColdBoot
	case list.Proof.Proved:
		r.Verdict = Complete
	case r.Missing > 0:
		r.Verdict, r.Since = Truncated, r.KexecExecute-r.eventsAhead()
	default:
		r.Verdict, r.Since = Lost, list.Proof.Since
	}
	return r, nil
}

// findEvents looks for the two events of the last soft reboot.
func (r *Report) findEvents() error {
	var load, execute events.Figures
	i, loadAt, executeAt := 0, -1, -1
	for rec, err := range r.List.Records() {
		if err != nil {
			return err
		}
		switch name := rec.Name(); {
		case rec.BootAggregate():
			r.Boots++
			if r.Boots > 1 {
				r.KexecLoad, r.KexecExecute = loadAt, executeAt
				r.Between, r.Missing = 0, 0
				if executeAt >= 0 {
					r.Missing = max(0, int(execute.Count)-executeAt)
				}
				if loadAt >= 0 && executeAt >= 0 && execute.Count > load.Count {
					r.Between = int(execute.Count-load.Count) - 1
				}
			}
			loadAt, executeAt = -1, -1
		case name == events.KexecLoad:
			if f, err := events.ParseFigures(rec.Buf()); err == nil {
				load, loadAt = f, i
			}
		case name == events.KexecExecute:
			if f, err := events.ParseFigures(rec.Buf()); err == nil {
				execute, executeAt = f, i
			}
		}
		i++
	}
	return nil
}

// eventsAhead is 1 when kexec_load stands right before kexec_execute: a cut list
// lacks what came before both.
func (r *Report) eventsAhead() int {
	if r.KexecLoad == r.KexecExecute-1 && r.KexecLoad >= 0 {
		return 1
	}
	return 0
}

// String is the verdict in a sentence.
func (r *Report) String() string {
	switch r.Verdict {
	case Complete:
		return fmt.Sprintf("complete: %d records over %d boots, %s", r.List.Count, r.Boots, r.List.Proof)
	case ColdBoot:
		return fmt.Sprintf("cold boot: %d records, %s", r.List.Count, r.List.Proof)
	case Truncated:
		return fmt.Sprintf("truncated: %d records are missing before record %d", r.Missing, r.Since)
	case Lost:
		return fmt.Sprintf("lost: %s", r.List.Proof.Reason)
	}
	return fmt.Sprintf("unproved: %s", r.List.Proof.Reason)
}
