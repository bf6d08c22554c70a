package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
	seen := map[string]idle{}
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

// signalRunning sends SIGSTOP, once, to what runs, and counts what does not stand still
// yet.
func (s *StopProcesses) signalRunning(seen map[string]idle) (running int, err error) {
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
		// Where the leader is stopped, by whomever, its other threads are on their way.
		sent := leader.state == 'T' || slices.Contains(s.stopped, p)
		if standsStill("/proc/"+e.Name()+"/task/", sent, seen) {
			continue
		}
		running++
		if sent {
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
func standsStill(dir string, sent bool, seen map[string]idle) bool {
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return true // gone
	}
	for _, task := range tasks {
		thread := dir + task.Name()
		st, err := readStat(thread + "/stat")
		if err != nil {
			continue
		}
		if !strings.ContainsRune("TtZX", st.state) && !(sent && st.state == 'D' && sleeps(thread, seen)) {
			return false
		}
	}
	return true
}

// An idle thread was seen in uninterruptible sleep, and that sleep's number.
type idle struct {
	since    time.Time
	switches string
}

// asleepFor is how long one uninterruptible sleep is waited for: a disk answers sooner,
// and a server that is gone never.
const asleepFor = 5 * time.Second

// sleeps reports whether a thread in uninterruptible sleep will measure nothing: its
// signal is pending and stops it on its way back to user space, which may be never while
// it waits for a child that is stopped (vfork). What reads a file to measure it sleeps
// for moments, again and again.
func sleeps(thread string, seen map[string]idle) bool {
	if call, err := os.ReadFile(thread + "/syscall"); err == nil {
		number, _, _ := strings.Cut(string(call), " ")
		if waitsForChild(number) {
			return true
		}
	}
	var switches string
	status, _ := os.ReadFile(thread + "/status")
	for line := range strings.Lines(string(status)) {
		if n, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
			switches = n
		}
	}
	last, known := seen[thread]
	if !known || last.switches != switches {
		seen[thread] = idle{time.Now(), switches}
		return false
	}
	return time.Since(last.since) > asleepFor
}

// waitsForChild tells the system calls that wait for a child to execute another program.
func waitsForChild(number string) bool {
	const vfork = 58 // of x86-64; newer architectures have clone for it
	n, err := strconv.Atoi(number)
	return err == nil && (n == unix.SYS_CLONE || n == unix.SYS_CLONE3 || n == vfork && runtime.GOARCH == "amd64")
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
