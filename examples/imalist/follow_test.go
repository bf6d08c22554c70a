package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imakexec/imakexec/imalog"
)

// A kernel shows a list that changes, in a folder of its own.
type kernel struct {
	t       testing.TB
	dir     string
	records [][]byte // of the capture mainline, in binary form
}

func newKernel(t testing.TB) *kernel {
	k := &kernel{t: t, dir: t.TempDir()}
	for rec, err := range imalog.Records(readFile(t, mainline+"binary_runtime_measurements"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		b, err := rec.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		k.records = append(k.records, b)
	}
	return k
}

// show makes the list hold the records from one to another.
func (k *kernel) show(from, to int) {
	k.t.Helper()
	k.write("binary_runtime_measurements", bytes.Join(k.records[from:to], nil))
	k.write("runtime_measurements_count", []byte(strconv.Itoa(to-from)+"\n"))
}

// grow appends to the list, in the middle of a record too.
func (k *kernel) grow(b []byte, count int) {
	k.t.Helper()
	f, err := os.OpenFile(filepath.Join(k.dir, "binary_runtime_measurements"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		k.t.Fatal(err)
	}
	k.write("runtime_measurements_count", []byte(strconv.Itoa(count)+"\n"))
}

// write replaces a file as a whole, as far as a reader can tell.
func (k *kernel) write(name string, b []byte) {
	k.t.Helper()
	name = filepath.Join(k.dir, name)
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		k.t.Fatal(err)
	}
}

// A screen is what is printed while somebody waits for it.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait waits for text to appear.
func (s *screen) wait(t testing.TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", text, s)
		}
	}
}

// start follows the kernel's list; stop returns the exit status.
func (k *kernel) start(args ...string) (out, errs *screen, stop func() int) {
	out, errs = &screen{}, &screen{}
	w, _, _ := newWorld(nil)
	w.out, w.err = out, errs
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	go func() { done <- w.run(ctx, append(args, "-follow", "-every", "1ms", k.dir)) }()
	return out, errs, func() int { cancel(); return <-done }
}

func TestFollow(t *testing.T) {
	k := newKernel(t)
	k.show(0, 3)
	out, errs, stop := k.start("-o", "ascii")
	text := strings.SplitAfter(string(readFile(t, mainline+"ascii_runtime_measurements")), "\n")
	out.wait(t, strings.Join(text[:3], ""))
	k.grow(k.records[3], 4)
	out.wait(t, strings.Join(text[:4], ""))
	k.grow(k.records[4][:10], 4) // half a record, which no kernel shows, is waited for
	k.grow(append(k.records[4][10:len(k.records[4]):len(k.records[4])], bytes.Join(k.records[5:], nil)...), 23)
	out.wait(t, text[22])
	if status := stop(); status != exitGood || errs.String() != "" || out.String() != strings.Join(text, "") {
		t.Errorf("status %d, %s\n%s", status, errs, out)
	}
}

func TestFollowTable(t *testing.T) {
	k := newKernel(t)
	k.show(0, 18)
	out, _, stop := k.start("-template", "ima-buf")
	out.wait(t, "kexec_load  segment")
	k.show(0, 23)
	out.wait(t, "     20   10  ima-buf")
	if status := stop(); status != exitGood {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		"\n# boot 2, from record 19: soft reboot, kexec_load is record 13, kexec_execute is record 18\n",
		"\n# 23 records, 2 boots, 2555 bytes, 4 shown; followed until interrupted, sha1 digests\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// Linux 7.2 and later let root delete the oldest records.
func TestFollowDeleted(t *testing.T) {
	k := newKernel(t)
	k.show(0, 10)
	out, errs, stop := k.start("-o", "binary")
	want := func(to int) string { return string(bytes.Join(k.records[:to], nil)) }
	out.wait(t, want(10))
	k.show(7, 14) // some that were shown are gone
	out.wait(t, want(14))
	if errs.String() != "" {
		t.Errorf("complained: %s", errs)
	}
	k.show(14, 17) // all that were shown are gone
	out.wait(t, want(17))
	errs.wait(t, "imalist: all records that were shown were deleted, and perhaps some that were not\n")
	if status := stop(); status != exitGood || out.String() != want(17) {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestFollowDamaged(t *testing.T) {
	k := newKernel(t)
	k.show(0, 2)
	out, errs, stop := k.start("-o", "binary")
	out.wait(t, string(bytes.Join(k.records[:2], nil)))
	k.grow(bytes.Repeat([]byte{0xff}, 100), 3)
	errs.wait(t, "imalist: "+k.dir+": record 2 at offset 227: not a record of an IMA measurement list")
	if status := stop(); status != exitError {
		t.Errorf("status %d", status)
	}
}

// busy is a list that another process writes to for a while.
type busy struct {
	fs.FS
	mu   sync.Mutex
	left int // times that it cannot be opened
}

func (b *busy) Open(name string) (fs.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.HasSuffix(name, "binary_runtime_measurements") && b.left > 0 {
		b.left--
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EBUSY}
	}
	return b.FS.Open(name)
}

func TestFollowBusy(t *testing.T) {
	k := newKernel(t)
	k.show(0, 3)
	list := &busy{FS: under{ima, os.DirFS(k.dir)}, left: 3}
	var out, notes bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	f := &follower{root: list, name: "list", every: time.Millisecond, pause: func() error { return nil },
		opts: imalog.FollowOptions{Busy: -1},
		note: func(s string) { notes.WriteString(s + "\n") },
		add: func(rec *imalog.Record) error {
			b, err := rec.AppendBinary(nil)
			out.Write(b)
			switch n++; n {
			case 3:
				list.mu.Lock()
				list.left = 2
				list.mu.Unlock()
				k.show(0, 5)
			case 5:
				cancel()
			}
			return err
		}}
	if err := f.run(ctx); err != nil {
		t.Fatal(err)
	}
	if want := bytes.Join(k.records[:5], nil); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d records", n)
	}
	// Once each time that it is busy, however long.
	if want := strings.Repeat("another process is deleting or staging records: waiting\n", 2); notes.String() != want {
		t.Errorf("noted %q", notes.String())
	}
}

func TestFollowOutputFails(t *testing.T) {
	k := newKernel(t)
	k.show(0, 3)
	for _, c := range []follower{
		{add: func(*imalog.Record) error { return io.ErrShortWrite }, pause: func() error { return nil }},
		{add: func(*imalog.Record) error { return nil }, pause: func() error { return io.ErrShortWrite }},
	} {
		c.name, c.every, c.root = "list", time.Millisecond, under{ima, os.DirFS(k.dir)}
		if err := c.run(context.Background()); !errors.Is(err, io.ErrShortWrite) {
			t.Error(err)
		}
	}
}
