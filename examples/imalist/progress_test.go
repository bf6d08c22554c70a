package main

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	var screen bytes.Buffer
	now := time.Unix(0, 0)
	m := newMeter(&screen, 10e6)
	m.now = func() time.Time { return now }
	m.next = now.Add(patience)
	step := func(n int64, d time.Duration, want string) {
		t.Helper()
		screen.Reset()
		now = now.Add(d)
		m.add(n)
		if got := screen.String(); got != want {
			t.Errorf("after %d bytes more: %q, want %q", n, got, want)
		}
	}
	step(1e6, patience/2, "")
	step(1e6, patience/2, "\r 20% of 10.0 MB ")
	step(1e6, refresh/2, "")
	step(1e6, refresh/2, "\r 40% of 10.0 MB ")
	step(6e6, refresh, "\r100% of 10.0 MB ")
	step(0, refresh, "\r100% of 10.0 MB ")
	step(5e6, refresh, "\r 50% of 10.0 MB, pass 2 ")
	screen.Reset()
	m.clear()
	if got, want := screen.String(), "\r                                        \r"; got != want {
		t.Errorf("cleared with %q", got)
	}
	screen.Reset()
	m.clear()
	if screen.Len() > 0 {
		t.Errorf("cleared twice with %q", screen.String())
	}
}

func TestMeterWithoutTerminal(t *testing.T) {
	m := newMeter(nil, 10)
	m.next = time.Time{}
	m.add(10)
	m.clear()
	if m.shown {
		t.Error("shown without a terminal")
	}
}

// What is no terminal gets no progress.
func TestTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, f := range []*os.File{file, null} {
		if terminal(f) {
			t.Errorf("%s is a terminal", f.Name())
		}
	}
}

// The progress does not come between lines on the same terminal.
func TestMeterOfWorld(t *testing.T) {
	w := &world{progress: &bytes.Buffer{}, outIsTerminal: true}
	if m := w.meter(&input{}, true); m.w != nil {
		t.Error("shown between the lines of a list")
	}
	if m := w.meter(&input{}, false); m.w == nil {
		t.Error("not shown when a list is verified")
	}
	w.outIsTerminal = false
	if m := w.meter(&input{}, true); m.w == nil {
		t.Error("not shown when a list is written to a file")
	}
}
