package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/testenv"
)

func testEntry(t testing.TB, name string) Entry {
	return Entry{
		Record: record(t, name, "data of "+name), Count: 3,
		Before: imalog.Values{imalog.AlgSHA1: bytes.Repeat([]byte{1}, 20), 0x0027: bytes.Repeat([]byte{2}, 32)},
	}
}

func TestJournalKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "state")
	j := openJournal(t, dir)
	after := imalog.Values{imalog.AlgSHA1: bytes.Repeat([]byte{3}, 20)}
	states := []State{Extended, Dropped, Unsettled}
	for i, state := range states {
		seq, err := j.Append(testEntry(t, state.String()))
		if err != nil || seq != uint64(i+1) {
			t.Fatalf("entry %d, %v", seq, err)
		}
		if err := j.Settle(seq, state, after); err != nil {
			t.Fatal(err)
		}
	}
	again, err := OpenJournal(dir, &JournalOptions{BootID: bootA, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, got := range [][]Entry{j.Entries(), again.Entries()} {
		if len(got) != len(states) {
			t.Fatalf("%d entries", len(got))
		}
		for i, e := range got {
			want := testEntry(t, states[i].String())
			if e.State != states[i] || e.Count != 3 || !e.Before.Equal(want.Before) || !sameRecord(&e.Record, &want.Record) || e.Time.IsZero() {
				t.Errorf("entry %d: %+v", i, e)
			}
			if (e.After != nil) != (e.State == Extended) {
				t.Errorf("entry %d: after %x", i, e.After)
			}
		}
	}
	if _, err := again.Append(testEntry(t, "x")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("append to a journal that is read: %v", err)
	}
	if err := again.Settle(1, Extended, nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("settle in a journal that is read: %v", err)
	}
	if err := j.Settle(9, Extended, nil); err == nil {
		t.Error("settled an entry that is not there")
	}
	if err := errors.Join(j.Close(), j.Close()); err != nil {
		t.Error(err)
	}
	if _, err := j.Append(testEntry(t, "x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append to a closed journal: %v", err)
	}
}

// TestJournalFormat reads the file as an agent would that does not know this
// package.
func TestJournalFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j := openJournal(t, dir)
	e := testEntry(t, KexecLoad)
	if _, err := j.Append(e); err != nil {
		t.Fatal(err)
	}
	if err := j.Settle(1, Extended, e.Before); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "journal-"+bootA+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), b)
	}
	var entry, outcome map[string]any
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &entry), json.Unmarshal([]byte(lines[1]), &outcome)); err != nil {
		t.Fatal(err)
	}
	raw, err := e.Record.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]any{"sha1": strings.Repeat("01", 20), "0x0027": strings.Repeat("02", 32)}
	for key, want := range map[string]any{
		"seq": 1.0, "boot_id": bootA, "pcr": 10.0, "name": KexecLoad, "count": 3.0, "before": before,
		"record": base64.StdEncoding.EncodeToString(raw),
	} {
		if fmt.Sprint(entry[key]) != fmt.Sprint(want) {
			t.Errorf("entry: %s is %v, want %v", key, entry[key], want)
		}
	}
	if entry["writer"].(map[string]any)["pid"] != float64(os.Getpid()) || entry["state"] != nil {
		t.Errorf("entry: %v", entry)
	}
	if outcome["seq"] != 1.0 || outcome["state"] != "extended" || outcome["record"] != nil || fmt.Sprint(outcome["after"]) != fmt.Sprint(before) {
		t.Errorf("outcome: %v", outcome)
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]fs.FileMode{dir: 0o700 | fs.ModeDir, j.Path(): 0o600} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
			}
		}
	}
}

// TestJournalTorn cuts the file at every byte: entries whose line is whole are
// there, nothing else is, and the next append works.
func TestJournalTorn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j := openJournal(t, dir)
	j.self.PID += 1 << 24 // a writer that is no more
	for _, name := range []string{"a", "b"} {
		if _, err := j.Append(testEntry(t, name)); err != nil {
			t.Fatal(err)
		}
		if err := j.Settle(j.Entries()[len(j.Entries())-1].Seq, Extended, nil); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(j.Path(), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(whole[:cut], []byte("\n"))
		want := (lines + 1) / 2
		k := openJournal(t, dir)
		e := k.Entries()
		if len(e) != want {
			t.Fatalf("cut at %d: %d entries, want %d", cut, len(e), want)
		}
		if want > 0 && (e[want-1].State == Extended) != (lines%2 == 0) {
			t.Errorf("cut at %d: last entry is %v", cut, e[want-1].State)
		}
		if seq, err := k.Append(testEntry(t, "next")); err != nil || seq != uint64(want+1) {
			t.Fatalf("cut at %d: appended %d, %v", cut, seq, err)
		}
		fresh := openJournal(t, dir)
		if e := fresh.Entries(); len(e) != want+1 || e[want].Record.Name() != "next" {
			t.Fatalf("cut at %d: after the append %+v", cut, e)
		}
		k.Close()
		fresh.Close()
	}
}

func TestJournalOtherBoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	old := openJournal(t, dir)
	if _, err := old.Append(testEntry(t, "old")); err != nil {
		t.Fatal(err)
	}
	old.Close()
	bystander := filepath.Join(dir, "state.json")
	if err := os.WriteFile(bystander, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A line of another boot in the file itself, as a copied file has.
	stale, err := os.ReadFile(old.Path())
	if err != nil {
		t.Fatal(err)
	}
	reader, err := OpenJournal(dir, &JournalOptions{BootID: bootB, ReadOnly: true})
	if err != nil || len(reader.Entries()) != 0 {
		t.Fatalf("reader of another boot: %v, %v", reader.Entries(), err)
	}
	if _, err := os.Stat(old.Path()); err != nil {
		t.Errorf("a reader removed it: %v", err)
	}
	now, err := OpenJournal(dir, &JournalOptions{BootID: bootB})
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	if _, err := os.Stat(old.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old journal is still there: %v", err)
	}
	if _, err := os.Stat(bystander); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(now.Path(), stale, 0o600); err != nil {
		t.Fatal(err)
	}
	if seq, err := now.Append(testEntry(t, "new")); err != nil || seq != 1 || len(now.Entries()) != 1 {
		t.Errorf("entry %d, %v, journal %+v", seq, err, now.Entries())
	}
	for _, id := range []string{"../x", "a/b", " ", strings.Repeat("a", 65)} {
		if _, err := OpenJournal(dir, &JournalOptions{BootID: id}); !errors.Is(err, ErrBootID) {
			t.Errorf("boot id %q: %v", id, err)
		}
	}
}

// TestJournalUnsafe: whoever could turn the journal could make a verifier
// believe in records that were never measured.
func TestJournalUnsafe(t *testing.T) {
	if runtime.GOOS == "windows" {
		testenv.Skip(t, "modes and links are those of Unix")
	}
	name := "journal-" + bootA + ".jsonl"
	tests := []struct {
		name string
		make func(dir string) error
	}{
		{"directory is a link", func(dir string) error {
			return errors.Join(os.Mkdir(dir+".real", 0o700), os.Symlink(dir+".real", dir))
		}},
		{"directory is a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"directory open to the group", func(dir string) error { return os.Mkdir(dir, 0o750) }},
		{"file is a link out", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+".real", nil, 0o600), os.Symlink(dir+".real", filepath.Join(dir, name)))
		}},
		{"file is a link within", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "real"), nil, 0o600), os.Symlink("real", filepath.Join(dir, name)))
		}},
		{"file is a dangling link", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink("nowhere", filepath.Join(dir, name)))
		}},
		{"file is a directory", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, name), 0o700))
		}},
		{"file open to others", func(dir string) error {
			path := filepath.Join(dir, name)
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644))
		}},
	}
	for _, tt := range tests {
		for _, readOnly := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "state")
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			j, err := OpenJournal(dir, &JournalOptions{BootID: bootA, ReadOnly: readOnly})
			if !errors.Is(err, ErrUnsafe) {
				t.Errorf("%s, read only %v: %v", tt.name, readOnly, err)
				if err == nil {
					j.Close()
				}
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "state")
	if j, err := OpenJournal(dir, &JournalOptions{BootID: bootA, ReadOnly: true}); err != nil || len(j.Entries()) != 0 {
		t.Errorf("no journal at all: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a reader made the directory")
	}
}

// TestJournalOwesOutcome: a full disk keeps the outcome of a measurement from
// being written; the next line brings it, or Close does.
func TestJournalOwesOutcome(t *testing.T) {
	for _, next := range []string{"append", "close"} {
		dir := filepath.Join(t.TempDir(), "state")
		j := openJournal(t, dir)
		seq, err := j.Append(testEntry(t, "a"))
		if err != nil {
			t.Fatal(err)
		}
		disk := &fullDisk{journalFile: j.file, room: 30}
		j.file = disk
		if err := j.Settle(seq, Extended, nil); !errors.Is(err, errNoSpace) {
			t.Fatal(err)
		}
		if e := j.Entries(); e[0].State != Extended {
			t.Errorf("%s: in memory %v", next, e[0].State)
		}
		reader := openJournal(t, dir)
		if e := reader.Entries(); len(e) != 1 || e[0].State != Unsettled {
			t.Errorf("%s: on disk %+v", next, e)
		}
		disk.room = 1 << 20
		if next == "append" {
			_, err = j.Append(testEntry(t, "b"))
		} else {
			err = j.Close()
		}
		if err := errors.Join(err, reader.Reload()); err != nil {
			t.Fatal(err)
		}
		if e := reader.Entries(); e[0].State != Extended {
			t.Errorf("%s: afterwards %+v", next, e)
		}
	}
}

// TestJournalTwoWriters: while one process has an entry that it did not settle,
// another must not measure; afterwards it may, and sees all there is.
func TestJournalTwoWriters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	one, two := openJournal(t, dir), openJournal(t, dir)
	seq, err := one.Append(testEntry(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Append(testEntry(t, "two")); !errors.Is(err, ErrBusy) {
		t.Fatalf("while the first is at it: %v", err)
	}
	if err := one.Settle(seq, Unsettled, nil); err != nil { // over, outcome not known
		t.Fatal(err)
	}
	if seq, err := two.Append(testEntry(t, "two")); err != nil || seq != 2 {
		t.Fatalf("entry %d, %v", seq, err)
	}
	if e := two.Entries(); len(e) != 2 || e[0].Record.Name() != "one" || e[0].State != Unsettled {
		t.Errorf("second writer sees %+v", e)
	}
}

// lateLine has another writer's line get in just before one's own.
type lateLine struct {
	journalFile
	first []byte
}

func (l *lateLine) Write(b []byte) (int, error) {
	first := l.first
	l.first = nil
	if _, err := l.journalFile.Write(first); err != nil {
		return 0, err
	}
	return l.journalFile.Write(b)
}

// TestJournalRace: two writers take the same number; the line that is first in
// the file has it, and the other knows.
func TestJournalRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j := openJournal(t, dir)
	e := testEntry(t, "faster")
	e.Seq = 1
	first, err := encodeEntry(&e, bootA, writer{ID: "other", PID: os.Getpid() + 1<<24})
	if err != nil {
		t.Fatal(err)
	}
	j.file = &lateLine{j.file, first}
	if seq, err := j.Append(testEntry(t, "slower")); !errors.Is(err, ErrBusy) {
		t.Fatalf("entry %d, %v", seq, err)
	}
	if e := j.Entries(); len(e) != 1 || e[0].Record.Name() != "faster" {
		t.Fatalf("journal %+v", e)
	}
	// The other one is dead, so its entry stops nobody.
	if seq, err := j.Append(testEntry(t, "again")); err != nil || seq != 2 {
		t.Errorf("entry %d, %v", seq, err)
	}
	// A torn line in front of one's own swallows it; that must not pass for done.
	j.file = &lateLine{j.file, []byte(`{"seq":3,"boo`)}
	if seq, err := j.Append(testEntry(t, "glued")); !errors.Is(err, ErrBusy) {
		t.Errorf("entry %d, %v", seq, err)
	}
	if seq, err := j.Append(testEntry(t, "free")); err != nil || seq != 3 || j.Skipped() != 1 {
		t.Errorf("entry %d, %v, %d lines skipped", seq, err, j.Skipped())
	}
}

// TestJournalProcesses has four processes append to one journal, each until it
// has its share; one of them is killed with an entry that it did not settle.
func TestJournalProcesses(t *testing.T) {
	const share = 20
	if dir := os.Getenv("EVENTS_TEST_JOURNAL"); dir != "" {
		j, err := OpenJournal(dir, &JournalOptions{BootID: bootA})
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < share; {
			seq, err := j.Append(testEntry(t, os.Getenv("EVENTS_TEST_NAME")))
			if errors.Is(err, ErrBusy) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if os.Getenv("EVENTS_TEST_NAME") == "killed" {
				os.Exit(0) // as a kill would, in the middle
			}
			if err := j.Settle(seq, Extended, nil); err != nil {
				t.Fatal(err)
			}
			n++
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "killed"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestJournalProcesses$")
		cmd.Env = append(os.Environ(), "EVENTS_TEST_JOURNAL="+dir, "EVENTS_TEST_NAME="+name)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}()
	}
	wg.Wait()
	got := map[string]int{}
	for i, e := range openJournal(t, dir).Entries() {
		got[e.Record.Name()]++
		if e.Seq != uint64(i+1) || (e.State == Extended) == (e.Record.Name() == "killed") {
			t.Errorf("entry %d: number %d, %s, %v", i, e.Seq, e.Record.Name(), e.State)
		}
	}
	want := map[string]int{"a": share, "b": share, "c": share, "killed": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("entries by writer %v, want %v", got, want)
	}
}
