package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StopProcesses is the Quiescer that stops every other process with SIGSTOP and
// lets go those it stopped, with SIGCONT. It leaves out kernel threads, process
// 1, which cannot be stopped, what was stopped already, and what Keep names.
//
// A process that waits for a stopped one, such as a terminal that shows this
// one's output, may block until Resume: write little, or Keep it.
type StopProcesses struct {
	// Keep, when not nil, says which processes to leave alone.
	Keep func(pid int) bool

	stopped []process
}

type process struct {
	pid   int
	start string // start time in clock ticks since boot: tells a reused pid
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

// signalRunning sends SIGSTOP to what it sees for the first time and counts what
// does not stand still yet.
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
		st, err := readStat(pid)
		if err != nil || st.kernelThread {
			continue // gone, or nothing to stop
		}
		p := process{pid, st.start}
		since, known := seen[p]
		still := strings.ContainsRune("TtZX", st.state) || known && st.state == 'D' && time.Since(since) > inKernel
		if still {
			continue
		}
		running++
		if known {
			continue
		}
		if err := signal(pid, syscall.SIGSTOP); err != nil {
			if errors.Is(err, os.ErrProcessDone) {
				continue
			}
			return running, fmt.Errorf("stop process %d: %w", pid, err)
		}
		seen[p] = time.Now()
		s.stopped = append(s.stopped, p)
	}
	return running, nil
}

// Resume continues the processes that Suspend stopped, last first.
func (s *StopProcesses) Resume() error {
	var errs []error
	for i := len(s.stopped) - 1; i >= 0; i-- {
		p := s.stopped[i]
		if st, err := readStat(p.pid); err != nil || st.start != p.start {
			continue // it is gone
		}
		if err := signal(p.pid, syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("continue process %d: %w", p.pid, err))
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

type stat struct {
	state        rune
	start        string
	kernelThread bool
}

// readStat reads /proc/PID/stat (proc_pid_stat(5)): the fields after the name,
// which is in parentheses and may hold anything.
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(f))
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	if err != nil {
		return stat{}, err
	}
	const pfKthread = 0x0020_0000
	return stat{state: rune(f[0][0]), start: f[19], kernelThread: flags&pfKthread != 0}, nil
}
