//go:build linux

package vmtest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// process is a program that never outlives this one: it is killed by stop, and by
// the kernel when this process dies however it dies.
type process struct {
	name string
	cmd  *exec.Cmd
	out  tail
	done chan struct{} // closed when it has ended
	err  error         // of Wait; valid after done
}

func startProcess(name string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(name), cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that started the child, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("vmtest: start %s: %w", p.name, err)
	}
	return p, nil
}

// stop kills the process, if it still runs, and waits until it is gone.
func (p *process) stop() {
	p.cmd.Process.Kill()
	<-p.done
}

// failed describes how the process ended, with what it said.
func (p *process) failed() error {
	said := strings.TrimSpace(p.out.String())
	if said != "" {
		said = ": " + said
	}
	return fmt.Errorf("vmtest: %s ended early (%v)%s", p.name, p.err, said)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailSize = 1 << 20

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(b)
	if over := t.b.Len() - tailSize; over > 0 {
		t.b.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
