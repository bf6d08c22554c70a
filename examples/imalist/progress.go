package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// A meter shows on a terminal how far a long input has been read.
type meter struct {
	w     io.Writer // nil: there is no terminal
	total int64     // bytes; the input may be read several times
	now   func() time.Time

	read  int64
	pass  int
	next  time.Time
	shown bool
}

// Progress is shown for what takes longer than patience, and so often.
const (
	patience = time.Second
	refresh  = 100 * time.Millisecond
)

func newMeter(w io.Writer, total int64) *meter {
	m := &meter{w: w, total: total, now: time.Now, pass: 1}
	m.next = m.now().Add(patience)
	return m
}

// add notes that n bytes more were read.
func (m *meter) add(n int64) {
	if m.w == nil {
		return
	}
	if m.read >= m.total && n > 0 {
		m.read, m.pass = 0, m.pass+1
	}
	m.read += n
	now := m.now()
	if now.Before(m.next) {
		return
	}
	m.next, m.shown = now.Add(refresh), true
	s := fmt.Sprintf("%3d%% of %s", 100*m.read/max(m.total, 1), megabytes(m.total))
	if m.pass > 1 {
		s += fmt.Sprintf(", pass %d", m.pass)
	}
	fmt.Fprintf(m.w, "\r%s ", s)
}

// clear takes the progress off the screen.
func (m *meter) clear() {
	if m.shown {
		fmt.Fprintf(m.w, "\r%*s\r", 40, "")
		m.shown = false
	}
}

func megabytes(n int64) string {
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// terminal reports whether f is one.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
