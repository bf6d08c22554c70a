package events

import "fmt"

// String returns the report as text, as AppendText does.
func (r *Report) String() string {
	b, _ := r.AppendText(nil)
	return string(b)
}

// AppendText appends the report for people: a line on the list, one for each
// boot in it, and indented ones on what is known of its beginning.
// encoding/json gives the same for programs.
func (r *Report) AppendText(b []byte) ([]byte, error) {
	b = fmt.Appendf(b, "%s in %s; %s\n", count(r.Records, "record"), count(len(r.Boundaries), "boot"), r.proof())
	for i := range r.Boundaries {
		bd := &r.Boundaries[i]
		end := r.Records
		if i+1 < len(r.Boundaries) {
			end = r.Boundaries[i+1].Record
		}
		b = fmt.Appendf(b, "records %d-%d: %s", bd.Record, end-1, bd.beginning())
		if bd.Kernel != "" {
			b = fmt.Appendf(b, ", Linux %s", bd.Kernel)
		}
		b = append(b, '\n')
		b = bd.appendDetails(b)
	}
	for _, e := range r.Pending {
		b = fmt.Appendf(b, "a handover has begun: %s (record %d)\n", e.Name, e.Record)
	}
	return b, nil
}

func (r *Report) proof() string {
	switch {
	case r.Proof == Proved && r.Covered < r.Records:
		return fmt.Sprintf("PCR %d proves the first %d", r.PCR, r.Covered)
	case r.Proof == Proved:
		return fmt.Sprintf("PCR %d proves them", r.PCR)
	case r.Proof == ProvedWith:
		return fmt.Sprintf("PCR %d proves them, and what is missing", r.PCR)
	case r.Proof == Disproved:
		return fmt.Sprintf("they do not lead to the value of PCR %d", r.PCR)
	}
	return "without a proof"
}

func (b *Boundary) beginning() string {
	switch b.Verdict {
	case Cold:
		return "cold boot"
	case Headless:
		return "a boot whose first records were deleted"
	case Complete:
		return "soft reboot, complete"
	case Lost:
		return "soft reboot, records lost"
	case Truncated:
		return "soft reboot, list cut short"
	case Silent:
		return "soft reboot, nothing says whether records were lost"
	}
	if b.Record == 0 {
		return "cold boot, or a soft reboot that lost the whole list"
	}
	return "soft reboot, records lost here or elsewhere"
}

func (b *Boundary) appendDetails(out []byte) []byte {
	switch {
	case b.Load != nil && b.Execute != nil:
		out = fmt.Appendf(out, "    %s (record %d), %s, %s (record %d), made by %s\n",
			b.Load.Name, b.Load.Record, count(b.Between, "record"), b.Execute.Name, b.Execute.Record, b.maker())
	case b.Load != nil:
		out = fmt.Appendf(out, "    %s (record %d), no kexec_execute, made by %s\n", b.Load.Name, b.Load.Record, b.maker())
	case b.Execute != nil:
		out = fmt.Appendf(out, "    %s (record %d), no kexec_load, made by %s\n", b.Execute.Name, b.Execute.Record, b.maker())
	}
	if l := b.Loss; l != nil {
		what := "records"
		if l.Records > 0 {
			what = count(l.Records, "record")
		}
		out = fmt.Appendf(out, "    %s missing between records %d and %d", what, l.After, l.Before)
		if l.Bytes > 0 {
			out = fmt.Appendf(out, ", %s", count(l.Bytes, "byte"))
		}
		if l.Inferred {
			out = append(out, ", or some before them changed"...)
		}
		out = append(out, '\n')
	}
	if b.Missing != nil {
		out = fmt.Appendf(out, "    what is missing is the %s of the sender's kernel\n", b.Missing.Name())
	}
	return out
}

func (b *Boundary) maker() string {
	switch b.Maker {
	case MakerKernel:
		return "the kernel"
	case MakerUser:
		return "user space"
	}
	return "whom is not known"
}

func count[T int | uint64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
