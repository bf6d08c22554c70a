package handover

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
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
