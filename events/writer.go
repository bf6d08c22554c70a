package events

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
)

// writer is who wrote an entry.
type writer struct {
	ID  string `json:"id"` // of the opened journal, random
	PID int    `json:"pid"`
	// Start is when the process started, in clock ticks since boot, so that a
	// process that got the number of a dead one is not taken for it. 0 where the
	// system does not tell.
	Start uint64 `json:"start,omitempty"`
}

func newWriter() writer {
	pid := os.Getpid()
	start, _ := processStart(pid)
	return writer{ID: rand.Text(), PID: pid, Start: start}
}

// alive reports whether the process that wrote is still there. Where there is
// no /proc, or the process is in another PID namespace, only the present
// process is known to be.
func (w writer) alive() bool {
	if w.PID == os.Getpid() {
		start, err := processStart(w.PID)
		return err != nil || start == w.Start
	}
	start, err := processStart(w.PID)
	return err == nil && start == w.Start
}

// processStart reads field 22 of /proc/<pid>/stat (fs/proc/array.c:
// do_task_stat), unless field 3 says that only its parent still remembers the
// process.
func processStart(pid int) (uint64, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/stat"
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	// Field 2, the command, is in parentheses and may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("%s: %d fields", name, len(fields)+2)
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return 0, fmt.Errorf("%s: the process has ended", name)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
