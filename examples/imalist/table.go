package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// A table shows a record a line, in columns that blanks part. Lines that begin
// with # are about the list: where a boot begins, and what the list was like.
type table struct {
	w     io.Writer
	wide  bool  // whole digests, the template digest too
	boot  int   // of the last line
	width []int // of the columns; they grow when they must
}

func newTable(w io.Writer, wide bool) *table {
	t := &table{w: w, wide: wide, width: []int{6, 3, 8, 19}}
	if wide {
		t.width = []int{6, 3, 8, 40, 71}
	}
	return t
}

func (t *table) header() []string {
	if t.wide {
		return []string{"record", "pcr", "template", "template-digest", "digest", "name"}
	}
	return []string{"record", "pcr", "template", "digest", "name"}
}

func (t *table) record(e *entry) error {
	if e.Boot.Number != t.boot {
		if t.boot == 0 {
			// The hash takes the place of the first column's first blank.
			if err := t.line(t.header(), "#"); err != nil {
				return err
			}
		}
		t.boot = e.Boot.Number
		if _, err := fmt.Fprintf(t.w, "# %v\n", e.Boot); err != nil {
			return err
		}
	}
	digest, name := t.digest(e.Record), plain(e.Name())
	if name == "" {
		name = "-"
	}
	cells := []string{strconv.Itoa(e.Index), strconv.FormatUint(uint64(e.PCR), 10), plain(e.Template), digest, name}
	if t.wide {
		cells = []string{cells[0], cells[1], cells[2], fmt.Sprintf("%x", e.Digest), digest, name}
	}
	if about := about(e); len(about) > 0 {
		cells[len(cells)-1] += "  " + strings.Join(about, ", ")
	}
	return t.line(cells, " ")
}

// line writes a line whose cells stand in columns, numbers on the right.
func (t *table) line(cells []string, mark string) error {
	var b strings.Builder
	b.WriteString(mark)
	for i, cell := range cells[:len(cells)-1] {
		t.width[i] = max(t.width[i], len(cell))
		if i > 0 {
			b.WriteString("  ")
		}
		if i < 2 {
			fmt.Fprintf(&b, "%*s", t.width[i], cell)
		} else {
			fmt.Fprintf(&b, "%-*s", t.width[i], cell)
		}
	}
	b.WriteString("  ")
	b.WriteString(cells[len(cells)-1])
	b.WriteByte('\n')
	_, err := io.WriteString(t.w, b.String())
	return err
}

// String says how a boot begins.
func (b boot) String() string {
	s := fmt.Sprintf("boot %d, from record %d", b.Number, b.First)
	switch {
	case b.Number == 1 && !b.Whole:
		s += ": older records are missing, deleted or in another file"
	case b.Number == 1:
	case b.Load < 0 && b.Execute < 0:
		s += ": soft reboot, without kexec events"
	case b.Execute < 0:
		s += fmt.Sprintf(": soft reboot, kexec_load is record %d, no kexec_execute", b.Load)
	case b.Load < 0:
		s += fmt.Sprintf(": soft reboot, kexec_execute is record %d, no kexec_load", b.Execute)
	default:
		s += fmt.Sprintf(": soft reboot, kexec_load is record %d, kexec_execute is record %d", b.Load, b.Execute)
	}
	return s
}

// shortDigest is how many digits of a digest the narrow table shows.
const shortDigest = 12

// digest returns the digest of what was measured.
func (t *table) digest(rec *imalog.Record) string {
	if rec.Violation() {
		return "violation"
	}
	d, ok := rec.FileDigest()
	if !ok {
		return "-"
	}
	sum := fmt.Sprintf("%x", d.Sum)
	if !t.wide && len(sum) > shortDigest {
		sum = sum[:shortDigest]
	}
	if d.Alg() != "" {
		sum = plain(d.Alg()) + ":" + sum
	}
	return sum
}

// about returns what there is to say of a record behind its name.
func about(e *entry) []string {
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	for f, err := range e.Fields() {
		if err != nil {
			say("%v", err)
			break
		}
		switch f.ID() {
		case "d-ngv2":
			if d, err := f.FileDigest(); err == nil && d.Type() == "verity" {
				say("fs-verity digest")
			}
		case "sig", "evmsig":
			if len(f.Data) > 0 {
				say("%s", signature(f))
			}
		case "modsig":
			if len(f.Data) > 0 {
				say("appended signature of %s", count(len(f.Data), "byte"))
			}
		case "iuid":
			if v, err := f.Uint(); err == nil && len(f.Data) > 0 {
				say("uid %d", v)
			}
		case "igid":
			if v, err := f.Uint(); err == nil && len(f.Data) > 0 {
				say("gid %d", v)
			}
		case "imode":
			if v, err := f.Uint(); err == nil && len(f.Data) > 0 {
				say("mode %o", v)
			}
		case "xattrnames":
			if names, err := f.Names(); err == nil && len(names) > 0 {
				say("%s", plain(strings.Join(names, " ")))
			}
		case "buf":
			if len(f.Data) > 0 {
				say("%s", buffer(e.Figures, f.Data))
			}
		}
	}
	if e.Wrong {
		say("WRONG template digest")
	}
	return words
}

func signature(f imalog.Field) string {
	s, err := f.Signature()
	if err != nil {
		return "signature of " + count(len(f.Data), "byte")
	}
	what := "signed"
	switch s.Type {
	case imalog.SignatureEVM:
		what = "EVM signature"
	case imalog.SignatureVerity:
		what = "fs-verity signature"
	}
	return fmt.Sprintf("%s by key %08x", what, s.KeyID)
}

// shortBuffer is how many bytes of a measured buffer the table shows.
const shortBuffer = 64

// buffer describes a measured buffer.
func buffer(f *events.Figures, data []byte) string {
	if f != nil {
		return fmt.Sprintf("segment of %s, list of %s in %s",
			count(f.SegmentSize, "byte"), count(f.ListSize, "byte"), count(f.Count, "record"))
	}
	if s := string(data); len(s) <= shortBuffer && printable(s) {
		return strconv.Quote(s)
	}
	return count(len(data), "byte")
}

func (t *table) end(s *summary) error {
	if s.form == "" {
		return nil
	}
	_, err := fmt.Fprintf(t.w, "# %s\n", s)
	return err
}

// count says how many of a thing there are.
func count[T int | uint64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
