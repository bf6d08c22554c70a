package events

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imakexec/imakexec/internal/softtpm"
	"github.com/imakexec/imakexec/internal/testenv"
)

func TestJournalBootIDOfKernel(t *testing.T) {
	want, err := os.ReadFile(bootIDFile)
	if err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(filepath.Join(t.TempDir(), "state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if j.BootID() != strings.TrimSpace(string(want)) {
		t.Errorf("boot id %q, the kernel's %q", j.BootID(), want)
	}
}

// TestWriterAlive tells a process from one that is gone and from one that got
// its number.
func TestWriterAlive(t *testing.T) {
	self := newWriter()
	if !self.alive() {
		t.Error("this process is not alive")
	}
	self.Start--
	if self.alive() {
		t.Error("a process that had this one's number is alive")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := processStart(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	child := writer{PID: cmd.Process.Pid, Start: start}
	if !child.alive() {
		t.Error("a child is not alive")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for tries := 0; child.alive(); tries++ { // dead before it is waited for
		if tries == 1000 {
			t.Fatal("a child that was killed is alive")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	if child.alive() {
		t.Error("a child that was waited for is alive")
	}
}

// TestJournalIsNoPipe: opening a named pipe would wait for its other end.
func TestJournalIsNoPipe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, journalName(bootA)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{false, true} {
		if _, err := OpenJournal(dir, &JournalOptions{BootID: bootA, ReadOnly: readOnly}); !errors.Is(err, ErrUnsafe) {
			t.Errorf("read only %v: %v", readOnly, err)
		}
	}
}

// TestRealFullDisk measures onto a file system of four pages until it is full,
// and on when there is room again. It runs itself in a mount namespace.
func TestRealFullDisk(t *testing.T) {
	const env = "EVENTS_TEST_FULL_DISK"
	dir := os.Getenv(env)
	if dir == "" {
		dir = t.TempDir()
		cmd := exec.Command("unshare", "-rm", "sh", "-c",
			`mount -t tmpfs -o size=16k none "$`+env+`" || exit 77; exec "$0" -test.run='^TestRealFullDisk$'`, os.Args[0])
		cmd.Env = append(os.Environ(), env+"="+dir)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil:
		case !errors.As(err, &exit):
			testenv.Skip(t, "needs unshare (util-linux): "+err.Error())
		case exit.ExitCode() == 77 || strings.HasPrefix(string(out), "unshare:"):
			testenv.Skip(t, "needs a mount namespace of its own: "+string(out))
		default:
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	tpm := softtpm.New(nil)
	m := &Measurer{TPM: tpm, Journal: openJournal(t, filepath.Join(dir, "state"))}
	done, full := 0, 0
	for i := 0; full < 3; i++ {
		if i == 100 {
			t.Fatal("the disk never was full")
		}
		rec := record(t, KexecLoad, strings.Repeat("x", 1+i))
		got, err := m.Measure(t.Context(), &rec, i)
		switch {
		case err == nil:
			done++
		case errors.Is(err, syscall.ENOSPC) && got.Outcome == NotDone:
			full++
		default:
			t.Fatalf("%v, %v", got.Outcome, err)
		}
		if tpm.Extends() != done {
			t.Fatalf("%d extends, %d measured", tpm.Extends(), done)
		}
	}
	if done == 0 {
		t.Fatal("the disk was full from the beginning")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	rec := record(t, KexecExecute, "y")
	if got, err := m.Measure(t.Context(), &rec, 0); err != nil || got.Outcome != Done {
		t.Fatalf("with room again: %v, %v", got.Outcome, err)
	}
	// Whoever reads the file finds all that was measured, and it replays.
	again := openJournal(t, filepath.Join(dir, "state"))
	values, err := m.Values(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t)
	found, err := Splice(t.Context(), s.start(), nil, again.Entries(), values, nil)
	if err != nil || len(found.At) != done+1 {
		t.Errorf("%d entries of %d, %+v, %v", len(again.Entries()), done+1, found, err)
	}
}
