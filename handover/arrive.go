package handover

import (
	"context"
	"fmt"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
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

	// Truncated: a part of them is missing because the list was cut: the last
	// kexec_execute counts more records than arrived before it.
	Truncated Verdict = "truncated"

	// Unproved: no PCR could be read, so the list can be neither proved nor doubted.
	Unproved Verdict = "unproved"
)

// Report is what Arrive found.
type Report struct {
	Verdict Verdict

	// Boots is the number of boots in the list.
	Boots int

	// Since is the index of the first record after the gap, for Lost and Truncated;
	// see Proof.Since.
	Since int

	// Missing is the number of records that kexec_execute counts and that did not
	// arrive; 0 when that is not known.
	Missing int

	// KexecLoad and KexecExecute are the indices of the events of the last soft
	// reboot, those before the last boot_aggregate; -1 when there are none.
	KexecLoad, KexecExecute int

	// Between is the number of records that were measured after Load and before
	// kexec_execute, the events not counted; 0 without both events.
	Between int

	// List is the list that was judged.
	List *List

	// Audit has the same for each boot in the list, as text and as JSON.
	Audit *events.Report
}

// Arrive reads the list and the PCR and says how the list came here: in a kernel
// that was just started, or at any later moment of its life. It changes nothing.
func Arrive(ctx context.Context, opts *ReadOptions) (*Report, error) {
	o := opts.withDefaults()
	list, step, err := readList(ctx, &o)
	if err != nil {
		return nil, &OpError{Op: "arrive", Step: step, Err: err}
	}
	audit, err := events.Audit(ctx, list.Records(), &events.AuditOptions{
		Want: list.Values, Replay: &imalog.ReplayOptions{PCR: o.PCR, Hashes: o.Hashes},
	})
	if err != nil {
		return nil, &OpError{Op: "arrive", Step: "audit", Err: err}
	}
	r := &Report{List: list, Audit: audit, Boots: len(audit.Boundaries), KexecLoad: -1, KexecExecute: -1}
	last := events.Boundary{}
	if r.Boots > 0 {
		last = audit.Boundaries[r.Boots-1]
	}
	if last.Load != nil {
		r.KexecLoad = last.Load.Record
	}
	if last.Execute != nil {
		r.KexecExecute = last.Execute.Record
	}
	if last.Load != nil && last.Execute != nil {
		r.Between = int(last.Between)
	}
	switch {
	case len(list.Values) == 0:
		r.Verdict = Unproved
	case list.Proof.Proved && r.Boots <= 1:
		r.Verdict = ColdBoot
	case list.Proof.Proved:
		r.Verdict = Complete
	default:
		r.Verdict, r.Since = Lost, list.Proof.Since
		if last.Verdict == events.Truncated {
			r.Verdict = Truncated
		}
		if last.Loss != nil {
			r.Missing = int(last.Loss.Records)
		}
	}
	return r, nil
}

// String is the verdict in a sentence.
func (r *Report) String() string {
	switch r.Verdict {
	case Complete:
		return fmt.Sprintf("complete: %d records over %d boots, %s", r.List.Count, r.Boots, r.List.Proof)
	case ColdBoot:
		return fmt.Sprintf("cold boot: %d records, %s", r.List.Count, r.List.Proof)
	}
	return fmt.Sprintf("%s: %s", r.Verdict, r.List.Proof.Reason)
}
