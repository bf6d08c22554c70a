package events

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// memFile is a journal's file in memory.
type memFile struct{ b []byte }

func (m *memFile) Write(b []byte) (int, error) { m.b = append(m.b, b...); return len(b), nil }
func (m *memFile) Sync() error                 { return nil }
func (m *memFile) Close() error                { return nil }
func (m *memFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(b, m.b[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func memJournal(content []byte) (*Journal, *memFile) {
	m := &memFile{b: bytes.Clone(content)}
	return &Journal{bootID: bootA, self: writer{ID: "self", PID: os.Getpid()}, measure: make(chan struct{}, 1), file: m}, m
}

func sameEntry(a, b Entry) bool {
	return a.Seq == b.Seq && a.Time.Equal(b.Time) && sameRecord(&a.Record, &b.Record) && a.Count == b.Count &&
		a.Before.Equal(b.Before) && a.State == b.State && a.After.Equal(b.After)
}

// FuzzJournal reads any file as a journal: entries are in order and come out
// again, reading it in two pieces gives the same, and the next entry is kept.
func FuzzJournal(f *testing.F) {
	j, m := memJournal(nil)
	for _, s := range []State{Extended, Dropped, Unsettled} {
		seq, err := j.Append(testEntry(f, s.String()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.b, uint16(len(m.b)/2))
		if err := j.Settle(seq, s, imalog.Values{imalog.AlgSHA1: make([]byte, 20)}); err != nil {
			f.Fatal(err)
		}
		f.Add(m.b, uint16(17))
	}
	f.Add(m.b[:len(m.b)-5], uint16(9))
	f.Add([]byte("{}\nnull\n[]\n\"\"\n{\"seq\":18446744073709551615}\n#torn\n"), uint16(3))
	f.Add(bytes.ReplaceAll(m.b, []byte(`"seq":2`), []byte(`"seq":18446744073709551615`)), uint16(3))
	f.Fuzz(func(t *testing.T, content []byte, cut uint16) {
		j, _ := memJournal(content)
		if err := j.Reload(); err != nil {
			t.Fatal(err)
		}
		entries := j.Entries()
		for i, e := range entries {
			if e.Seq == 0 || (i > 0 && e.Seq <= entries[i-1].Seq) {
				t.Fatalf("entry %d has number %d", i, e.Seq)
			}
			if _, err := e.Record.AppendBinary(nil); err != nil {
				t.Fatalf("entry %d does not come out: %v", i, err)
			}
		}
		at := min(int(cut), len(content))
		parts, m := memJournal(content[:at])
		if err := parts.Reload(); err != nil {
			t.Fatal(err)
		}
		m.b = append(m.b, content[at:]...)
		if err := parts.Reload(); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(entries, parts.Entries(), sameEntry) || parts.Skipped() != j.Skipped() {
			t.Fatalf("read at once %d entries, in pieces %d", len(entries), len(parts.Entries()))
		}
		seq, err := j.Append(testEntry(t, "next"))
		if err != nil {
			if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			return
		}
		again, _ := memJournal(j.file.(*memFile).b)
		if err := again.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := again.Entries(); len(got) != len(entries)+1 || got[len(entries)].Seq != seq || !slices.EqualFunc(got[:len(entries)], entries, sameEntry) {
			t.Fatalf("after appending entry %d: %d entries, were %d", seq, len(got), len(entries))
		}
	})
}

// FuzzSplice plays a history that the input tells and finds it again, for the
// PCR's value at any moment of it.
func FuzzSplice(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0}, uint8(255))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, uint8(255))
	f.Add([]byte{0, 0x31, 0, 0x22, 0x53, 0, 3, 1}, uint8(4))
	f.Add([]byte{3, 3, 1, 0x41, 0x81, 0xff}, uint8(3))
	f.Fuzz(func(t *testing.T, script []byte, moment uint8) {
		if len(script) > 24 {
			script = script[:24]
		}
		s := newScene(t, imalog.AlgSHA256)
		n := 0
		some := func(count int, name string) []imalog.Record {
			n++
			return files(t, count, fmt.Sprint(name, n))
		}
		for i, op := range script {
			arg := int(op >> 4)
			rec := record(t, fmt.Sprint("own", i), "o")
			switch op & 7 {
			case 0, 7:
				s.kernels(some(arg+1, "k")...)
			case 1:
				s.own(rec, Extended, some(arg&3, "s"), some(arg>>2, "a"))
			case 2:
				s.own(rec, Unsettled, some(arg&3, "s"), nil)
			case 3:
				s.lost(rec, Unsettled)
			case 4:
				s.lost(rec, Dropped)
			case 5: // an outcome that the journal lost
				s.own(rec, Extended, some(arg&3, "s"), nil)
				s.journal[len(s.journal)-1].After = nil
				s.journal[len(s.journal)-1].State = Unsettled
			case 6: // and what was read before it as well
				if arg == 0 {
					s.own(rec, Extended, nil, nil)
					s.journal[len(s.journal)-1].Before = nil
				}
			}
		}
		at := min(int(moment), len(s.truth))
		got, err := s.splice(s.values[at], &SpliceOptions{MaxSteps: 1 << 16})
		var se *SpliceError
		if errors.As(err, &se) && se.Limited {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		list := got.Merge(s.kernel[:got.Kernel], s.journal)
		if !slices.EqualFunc(list, s.truth[:at], func(a, b imalog.Record) bool { return sameRecord(&a, &b) }) {
			t.Fatalf("at %v of %d kernel records; they were at %v", got.At, got.Kernel, s.at)
		}
	})
}

// FuzzAudit judges any list, by itself and with a value that it leads to.
func FuzzAudit(f *testing.F) {
	err := filepath.WalkDir(captures, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "binary_runtime_measurements" {
			return err
		}
		b, err := os.ReadFile(path)
		if len(b) < 1<<13 {
			f.Add(b)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list := imalog.Records(b, nil)
		r, err := Audit(t.Context(), list, nil)
		if err != nil {
			return
		}
		checkReport(t, r)
		end := imalog.NewReplayer(nil)
		for rec := range list {
			if end.Add(&rec) != nil {
				return
			}
		}
		r, err = Audit(t.Context(), list, &AuditOptions{Want: end.Values()})
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, r)
		for i, b := range r.Boundaries {
			if r.Proof == Proved && i > 0 && b.Verdict != Complete {
				t.Fatalf("proved, yet boundary %d is %v", i, b.Verdict)
			}
		}
		if r.Proof == ProvedWith {
			t.Fatal("proved with a record that is not missing")
		}
	})
}

func checkReport(t *testing.T, r *Report) {
	t.Helper()
	if r.String() == "" {
		t.Fatal("no text")
	}
	for i, b := range r.Boundaries {
		if b.Record < 0 || b.Record >= r.Records || (i > 0) != b.Verdict.Soft() && b.Verdict != Unproved {
			t.Fatalf("boundary %d: %+v", i, b)
		}
		if l := b.Loss; l != nil && (l.After < 0 || l.After >= l.Before || l.Before > b.Record) {
			t.Fatalf("boundary %d: loss %+v", i, l)
		}
	}
}

// FuzzEvent builds an event of anything that is not refused, and reads it back.
func FuzzEvent(f *testing.F) {
	f.Add("label", "name", []byte("data"), uint16(imalog.AlgSHA256))
	f.Add("ima_kexec", KexecLoad, []byte("kexec_segment_size=4096;"), uint16(0))
	f.Add("l", "a name with blanks", []byte{0}, uint16(imalog.AlgSHA512))
	f.Fuzz(func(t *testing.T, label, name string, data []byte, alg uint16) {
		e := Event{Label: label, Name: name, Data: data}
		rec, err := e.Record(&RecordOptions{Alg: alg})
		if err != nil {
			return
		}
		b, err := rec.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		list := parse(t, b)
		if len(list) != 1 || !sameRecord(&list[0], &rec) {
			t.Fatalf("comes back as %v", list)
		}
		got, err := ParseEvent(&list[0])
		if err != nil || !bytes.Equal(got.Data, data) || len(got.Name) != len(name) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}
