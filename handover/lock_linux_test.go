package handover

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

const lockTestEnv = "HANDOVER_TEST_LOCK"

// lockForTest takes the lock at each line that it reads, says what came of it, and gives
// it back at the next.
func lockForTest(dir string) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); in.Scan() {
		unlock, err := lock(dir, "boot")
		switch {
		case err == nil:
			defer unlock()
			fmt.Println("held")
		case errors.Is(err, ErrBusy):
			fmt.Println("busy")
		default:
			fmt.Println(err)
		}
	}
}

// Of many processes that want the lock just when its owner has died, one gets it.
func TestLockOfADeadProcess(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		held := 0
		type child struct {
			*exec.Cmd
			in  io.WriteCloser
			out *bufio.Reader
		}
		var children []child
		for range 3 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), lockTestEnv+"="+dir)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			children = append(children, child{cmd, in, bufio.NewReader(out)})
		}
		for _, c := range children {
			fmt.Fprintln(c.in)
		}
		for _, c := range children {
			switch line, err := c.out.ReadString('\n'); line {
			case "held\n":
				held++
			case "busy\n":
			default:
				t.Errorf("%q, %v", line, err)
			}
		}
		for _, c := range children {
			c.Process.Kill() // with the lock, if it has it
			c.Wait()
		}
		if held != 1 {
			t.Fatalf("round %d: %d processes seal", round, held)
		}
	}
}
