package handover

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/imakexec/imakexec/internal/testenv"
)

// TestMain lets the test binary be the process that is stopped, or that seals.
func TestMain(m *testing.M) {
	if os.Getenv("HANDOVER_TEST_SPIN") != "" {
		for {
			time.Sleep(time.Millisecond)
		}
	}
	if dir := os.Getenv(lockTestEnv); dir != "" {
		lockForTest(dir)
		return
	}
	os.Exit(m.Run())
}

func statOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/stat" }

func startSpinner(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HANDOVER_TEST_SPIN=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

func wantState(t *testing.T, pid int, stopped bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		st, err := readStat(statOf(pid))
		if err != nil {
			t.Fatal(err)
		}
		if (st.state == 'T') == stopped {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is in state %c, want stopped: %v", pid, st.state, stopped)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStopProcesses(t *testing.T) {
	running, stopped, kept := startSpinner(t), startSpinner(t), startSpinner(t)
	if err := signal(stopped, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wantState(t, stopped, true)

	// The rest of the machine is none of this test's business.
	s := &StopProcesses{Keep: func(pid int) bool { return pid != running && pid != stopped }}
	if err := s.Suspend(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st, err := readStat(statOf(running)); err != nil || st.state != 'T' {
		t.Errorf("after Suspend the process is in state %c (%v), want T at once", st.state, err)
	}
	wantState(t, kept, false)
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	wantState(t, running, false)
	wantState(t, stopped, true) // it was stopped before, by somebody else
}

// A process that waits in vfork(2) for a child that is stopped stands still.
func TestStopProcessesVfork(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		testenv.Skip(t, "runs x86-64 code")
	}
	path := filepath.Join(t.TempDir(), "vforks")
	if err := os.WriteFile(path, vforks(), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	parent := cmd.Process.Pid
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if st, err := readStat(statOf(parent)); err == nil && st.state == 'D' {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not wait for its child")
		}
	}
	s := &StopProcesses{Keep: func(pid int) bool {
		group, err := syscall.Getpgid(pid)
		return err != nil || group != parent
	}}
	start := time.Now()
	if err := s.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > asleepFor {
		t.Errorf("Suspend took %v, as long as for a process of which nothing is known", took)
	}
	if len(s.stopped) != 2 {
		t.Errorf("%d processes are stopped, want parent and child", len(s.stopped))
	}
	if err := s.Resume(); err != nil {
		t.Error(err)
	}
}

// vforks is a program for x86-64 that calls vfork(2), and whose child waits for ever.
func vforks() []byte {
	code := []byte{
		0xb8, 58, 0, 0, 0, 0x0f, 0x05, // vfork
		0x85, 0xc0, 0x75, 0x09, // in the parent, skip
		0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7, // pause, again and again
		0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // exit(0)
	}
	const headers = 64 + 56
	return testenv.ELF(code, headers, headers)
}

// Without that, a sleep counts for as long as it is the same one.
func TestSleeps(t *testing.T) {
	dir := t.TempDir()
	thread := filepath.Join(dir, "1")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(thread, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(thread, 0o700); err != nil {
		t.Fatal(err)
	}
	seen := map[string]idle{}
	ago := func() { // as if asleepFor had passed
		seen[thread] = idle{time.Now().Add(-asleepFor - 1), seen[thread].switches}
	}
	write("syscall", "257 0x3 0x7f2e69820000\n") // openat
	write("status", "Name:\tx\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t5\n")
	if sleeps(thread, seen) {
		t.Error("at once")
	}
	ago()
	write("status", "Name:\tx\nvoluntary_ctxt_switches:\t18\nnonvoluntary_ctxt_switches:\t5\n")
	if sleeps(thread, seen) {
		t.Error("another sleep")
	}
	ago()
	if !sleeps(thread, seen) {
		t.Error("the same sleep")
	}
}

func TestStopProcessesCanceled(t *testing.T) {
	pid := startSpinner(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := &StopProcesses{Keep: func(p int) bool { return p != pid }}
	if err := s.Suspend(ctx); err == nil {
		// The signal may have been delivered before the first look; then nothing ran.
		s.Resume()
	}
	wantState(t, pid, false)
}

func TestReadStatOddName(t *testing.T) {
	st, err := readStat(statOf(os.Getpid()))
	if err != nil || st.kernelThread || st.start == "" {
		t.Errorf("own process: %+v, %v", st, err)
	}
	if st, err := readStat(statOf(2)); err == nil && !st.kernelThread {
		// Process 2 is kthreadd wherever processes are not namespaced.
		if b, _ := os.ReadFile("/proc/2/comm"); string(b) == "kthreadd\n" {
			t.Error("kthreadd is not seen as a kernel thread")
		}
	}
}
