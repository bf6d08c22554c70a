//go:build linux

package vmtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestProcessStop(t *testing.T) {
	p, err := startProcess("sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	if alive(p.cmd.Process.Pid) {
		t.Error("still running after stop")
	}
	p.stop() // a second time does no harm
	if _, err := startProcess("/no/such/program"); err == nil {
		t.Error("started a program that does not exist")
	}
}

const orphanEnv = "VMTEST_ORPHAN"

// A test binary that is killed, as "go test" does after its timeout, runs no
// cleanup; what it started must end all the same.
func TestProcessDiesWithItsParent(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		p, err := startProcess("sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("started %d\n", p.cmd.Process.Pid)
		<-p.done
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcessDiesWithItsParent$")
	cmd.Env = append(os.Environ(), orphanEnv+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	cmd.Process.Kill()
	cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "started ")))
	if err != nil {
		t.Fatalf("it said %q", line)
	}
	// An orphan's remains wait for process 1 to collect them, so the state is asked for.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		stat := string(readFile(fmt.Sprintf("/proc/%d/stat", pid)))
		if stat == "" || strings.Contains(stat, ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("the child outlived its parent: %s", stat)
		}
	}
}
