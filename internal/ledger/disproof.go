package ledger

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// disproof finds what can be said of a list that does not replay to want.
func disproof(ctx context.Context, list iter.Seq2[imalog.Record, error], replay *imalog.ReplayOptions, want imalog.Values) (Status, error) {
	audit, err := events.Audit(ctx, list, &events.AuditOptions{Want: want, Replay: replay})
	if err != nil {
		return Status{}, err
	}
	p := Status{Banks: Banks(want), Reason: fmt.Sprintf("PCR %d was extended before the first record, or by something that is not in the list", replay.PCR)}
	if len(audit.Boundaries) > 0 && audit.Boundaries[0].Verdict == events.Headless {
		p.Reason = "the list's oldest records were deleted"
		return p, nil
	}
	for _, b := range slices.Backward(audit.Boundaries) {
		if l := b.Loss; l != nil {
			p.Since = l.Before
			p.Reason = fmt.Sprintf("%s missing between records %d and %d", lostRecords(l.Records), l.After, l.Before)
			break
		}
	}
	return p, nil
}

func lostRecords(n uint64) string {
	switch n {
	case 0:
		return "records are"
	case 1:
		return "1 record is"
	}
	return fmt.Sprintf("%d records are", n)
}
