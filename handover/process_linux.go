package handover

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process tells a process from a later one with the same number.
type process struct {
	PID   int
	Start string // in clock ticks since boot
}

// alive reports whether the process still runs.
func (p process) alive() bool {
	st, err := readStat("/proc/" + strconv.Itoa(p.PID) + "/stat")
	return err == nil && st.start == p.Start && st.state != 'Z'
}

type stat struct {
	state        rune
	start        string
	kernelThread bool
}

// readStat reads /proc/PID/stat or /proc/PID/task/TID/stat (proc_pid_stat(5)): the
// fields after the name, which is in parentheses and may hold anything.
func readStat(path string) (stat, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return stat{}, fmt.Errorf("%s has %d fields after the name", path, len(f))
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("%s: %w", path, err)
	}
	const pfKthread = 0x0020_0000
	return stat{state: rune(f[0][0]), start: f[19], kernelThread: flags&pfKthread != 0}, nil
}
