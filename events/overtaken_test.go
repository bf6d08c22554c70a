package events

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

// A slowTPM calls then once, behind its first TPM2_PCR_Read.
type slowTPM struct {
	*softtpm.TPM
	then func()
}

func (s *slowTPM) Send(cmd []byte) ([]byte, error) {
	rsp, err := s.TPM.Send(cmd)
	if then := s.then; then != nil && bytes.Equal(cmd[6:10], []byte{0, 0, 0x01, 0x7e}) {
		s.then = nil
		then()
	}
	return rsp, err
}

// Two processes measure at once: one reads the PCR, the other is through before the
// first has written its journal.
func TestMeasureOvertaken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	tpm := softtpm.New(nil)
	fast, slow := record(t, "fast", "1"), record(t, "slow", "2")
	a := &Measurer{TPM: tpm, Journal: openJournal(t, dir)}
	s := &slowTPM{TPM: tpm, then: func() {
		if _, err := a.Measure(t.Context(), &fast, 0); err != nil {
			t.Error(err)
		}
	}}
	b := &Measurer{TPM: s, Journal: openJournal(t, dir)}
	got, err := b.Measure(t.Context(), &slow, 0)
	if err != nil || got.Outcome != Done {
		t.Fatal(got, err)
	}
	entries := openJournal(t, dir).Entries()
	if len(entries) != 2 || !entries[1].Before.Equal(entries[0].After) {
		t.Errorf("the second record is journaled with a PCR of before the first: %+v", entries)
	}
	want, err := b.Values(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := func() *imalog.Replayer {
		return imalog.NewReplayer(&imalog.ReplayOptions{Banks: []uint16{imalog.AlgSHA1, imalog.AlgSHA256}})
	}
	kernel := files(t, 40, "later")
	// Journals of before this was seen to have entries that were overtaken: by one or
	// by several, with kernel records between, and with or without After.
	for _, after := range []bool{true, false} {
		for _, between := range []int{0, 1, 7} {
			r := start()
			zero := r.Values()
			var journal []Entry
			var list []imalog.Record
			for i, name := range []string{"a", "b", "c"} {
				e := Entry{Seq: uint64(i + 1), Record: record(t, name, name), Before: zero, State: Extended}
				for _, rec := range append(kernel[len(list):len(list)+between:len(list)+between], e.Record) {
					if err := r.Add(&rec); err != nil {
						t.Fatal(err)
					}
				}
				list = append(list, kernel[len(list):len(list)+between]...)
				if after {
					e.After = r.Values()
				}
				journal = append(journal, e)
			}
			found, err := Splice(t.Context(), start(), kernel, journal, r.Values(), nil)
			if err != nil {
				t.Errorf("after %v, %d between: %v", after, between, err)
				continue
			}
			for i, at := range found.At {
				if at != (i+1)*between {
					t.Errorf("after %v, %d between: places %v", after, between, found.At)
					break
				}
			}
		}
	}
	if found, err := Splice(t.Context(), start(), nil, entries, want, nil); err != nil || found.At[0] != 0 || found.At[1] != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

// A link is a link with a slash behind it, too.
func TestJournalLinkWithSlash(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege")
	}
	base := t.TempDir()
	real, link := filepath.Join(base, "real"), filepath.Join(base, "link")
	other := filepath.Join(real, "journal-other.jsonl")
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{link, link + "/", link + "/."} {
		if j, err := OpenJournal(dir, &JournalOptions{BootID: bootA}); err == nil {
			j.Close()
			t.Errorf("%s was followed", dir)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

// Whoever looks at a journal before there is one sees it come.
func TestJournalReadOnlyEarly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r, err := OpenJournal(dir, &JournalOptions{BootID: bootA, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	w := openJournal(t, dir)
	if _, err := w.Append(testEntry(t, "x")); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil || len(r.Entries()) != 1 {
		t.Errorf("%d entries, %v", len(r.Entries()), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil || len(r.Entries()) != 1 {
		t.Errorf("closed: %d entries, %v", len(r.Entries()), err)
	}
}
