package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StopProcesses is the Quiescer that stops every other process with SIGSTOP and
// lets go those it stopped, with SIGCONT. It leaves out kernel threads, process
// 1, which cannot be stopped, what was stopped already, and what Keep names.
//
// Keep what this process waits for: a terminal or log daemon that takes its
// output, a daemon in front of the TPM, a FUSE file system that holds the kernel.
// When this process ends without Resume, by a kill say, the others stay stopped.
type StopProcesses struct {
	// Keep, when not nil, says which processes to leave alone.
	Keep func(pid int) bool

	stopped []process
}

// Suspend stops processes until a look at all of them finds none that runs,
// since those not yet stopped may start others.
func (s *StopProcesses) Suspend(ctx context.Context) error {
	if err := s.stopAll(ctx); err != nil {
		return errors.Join(err, s.Resume())
	}
	return nil
}

func (s *StopProcesses) stopAll(ctx context.Context) error {
	seen := map[process]time.Time{}
	for {
		running, err := s.signalRunning(seen)
		if err != nil {
			return err
		}
		if running == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes do not stop: %w", running, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// inKernel is how long a process in uninterruptible sleep is waited for: its
// signal is pending and stops it on its way back to user space, which may be
// never while it waits for one that is stopped (vfork).
const inKernel = time.Second

// signalRunning sends SIGSTOP, once, to what runs, and counts what does not stand still
// yet.
func (s *StopProcesses) signalRunning(seen map[process]time.Time) (running int, err error) {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == os.Getpid() || s.Keep != nil && s.Keep(pid) {
			continue
		}
		leader, err := readStat("/proc/" + e.Name() + "/stat")
		if err != nil || leader.kernelThread {
			continue // gone, or nothing to stop
		}
		p := process{pid, leader.start}
		since, known := seen[p]
		if standsStill(e.Name(), known && time.Since(since) > inKernel) {
			continue
		}
		running++
		if !known {
			seen[p] = time.Now()
		}
		// Where the leader is stopped, by whomever, its other threads are on their way.
		if leader.state == 'T' || slices.Contains(s.stopped, p) {
			continue
		}
		if err := signal(pid, syscall.SIGSTOP); err != nil {
			if errors.Is(err, os.ErrProcessDone) {
				continue
			}
			return running, fmt.Errorf("stop process %d: %w", pid, err)
		}
		s.stopped = append(s.stopped, p)
	}
	return running, nil
}

// standsStill looks at every thread of a process: its leader may be gone, or
// stopped first, while others run.
func standsStill(pid string, sleepers bool) bool {
	tasks, err := os.ReadDir("/proc/" + pid + "/task")
	if err != nil {
		return true // gone
	}
	for _, task := range tasks {
		st, err := readStat("/proc/" + pid + "/task/" + task.Name() + "/stat")
		if err != nil {
			continue
		}
		if !strings.ContainsRune("TtZX", st.state) && !(sleepers && st.state == 'D') {
			return false
		}
	}
	return true
}

// Resume continues the processes that Suspend stopped, last first.
func (s *StopProcesses) Resume() error {
	var errs []error
	for i := len(s.stopped) - 1; i >= 0; i-- {
		p := s.stopped[i]
		if !p.alive() {
			continue
		}
		if err := signal(p.PID, syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("continue process %d: %w", p.PID, err))
		}
	}
	s.stopped = nil
	return errors.Join(errs...)
}

func signal(pid int, sig syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer p.Release()
	return p.Signal(sig)
}
