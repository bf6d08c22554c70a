package imalog

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// securityfs is a file system whose lists grow and shrink while they are read,
// as the kernel's do: an open file reads what is there now, in pieces of less
// than a page, has no size, and cannot be sought from its end.
type securityfs struct {
	files map[string][]byte
	open  int
	busy  int // so many opens fail with EBUSY
	reads int
	step  int // bytes of a read, 4095 if zero
}

const liveDir = "sys/kernel/security/ima/"

func newSecurityfs(list []Record) *securityfs {
	s := &securityfs{files: map[string][]byte{}}
	s.set(list)
	return s
}

// set makes the current list.
func (s *securityfs) set(list []Record) {
	s.put(liveName, list)
	s.files[liveDir+"runtime_measurements_count"] = []byte(strconv.Itoa(len(list)) + "\n")
}

func (s *securityfs) put(name string, list []Record) {
	var b []byte
	for _, rec := range list {
		b, _ = rec.AppendBinary(b)
	}
	s.files[liveDir+name] = b
}

func (s *securityfs) Open(name string) (fs.File, error) {
	if _, ok := s.files[name]; !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if s.busy > 0 {
		s.busy--
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EBUSY}
	}
	s.open++
	return &secFile{s: s, name: name}, nil
}

type secFile struct {
	s    *securityfs
	name string
	pos  int64
}

func (f *secFile) Read(p []byte) (int, error) {
	f.s.reads++
	step := f.s.step
	if step == 0 {
		step = 4095
	}
	data := f.s.files[f.name]
	if f.pos >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), step)], data[f.pos:])
	f.pos += int64(n)
	return n, nil
}

func (f *secFile) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, syscall.EINVAL
	}
	f.pos = offset
	return offset, nil
}

func (f *secFile) Close() error               { f.s.open--; return nil }
func (f *secFile) Stat() (fs.FileInfo, error) { return secInfo{f.name}, nil }

type secInfo struct{ name string }

func (i secInfo) Name() string     { return i.name }
func (secInfo) Size() int64        { return 0 }
func (secInfo) Mode() fs.FileMode  { return 0o440 }
func (secInfo) ModTime() time.Time { return time.Time{} }
func (secInfo) IsDir() bool        { return false }
func (secInfo) Sys() any           { return nil }

func odd(t testing.TB) []Record {
	b, opts := captured{"testdata/lists/6.12-cloud/evm-sig-tcb"}.binary(t, "sha1")
	return records(t, b, opts)
}

// follow reads until there is nothing new and checks that it is want.
func wantNew(t *testing.T, f *Follower, want []Record) {
	t.Helper()
	for i := range want {
		rec, err := f.Next()
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if rec.String() != want[i].String() || string(rec.Digest) != string(want[i].Digest) {
			t.Fatalf("record %d is %v, want %v", i, rec, &want[i])
		}
	}
	if rec, err := f.Next(); err != io.EOF {
		t.Fatalf("%v, %v, want the end of the list", rec, err)
	}
}

func TestFollowReadsOnlyWhatIsNew(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list[:20])
	f := Live(s, nil)
	wantNew(t, f, list[:20])
	s.set(list[:21])
	wantNew(t, f, list[20:21])
	before := s.reads
	s.set(list[:40])
	wantNew(t, f, list[21:40])
	if s.reads-before > 4 {
		t.Errorf("%d reads for 19 new records", s.reads-before)
	}
	if f.Count() != 40 {
		t.Errorf("count %d", f.Count())
	}
	if err := f.Pause(); err != nil || s.open != 0 {
		t.Fatalf("%v, %d files open after Pause", err, s.open)
	}
	s.set(list)
	wantNew(t, f, list[40:])
	if err := f.Close(); err != nil || s.open != 0 {
		t.Fatalf("%v, %d files open after Close", err, s.open)
	}
}

func TestFollowHalfRecord(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list)
	whole := s.files[liveDir+liveName]
	f := Live(s, nil)
	got := 0
	for n := range len(whole) + 1 {
		s.files[liveDir+liveName] = whole[:n]
		for {
			_, err := f.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			got++
		}
	}
	if got != len(list) {
		t.Errorf("%d records of %d", got, len(list))
	}
}

func TestFollowStagedFirst(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list[30:])
	s.put(liveName+"_sha1_staged", list[:30])
	f := Live(s, nil)
	wantNew(t, f, list)
	f.Pause()
	wantNew(t, f, nil)
}

func TestFollowShrunk(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list)
	f := Live(s, nil)
	wantNew(t, f, list)
	f.Pause()
	s.set(list[30:])
	if _, err := f.Next(); !errors.Is(err, ErrShrunk) {
		t.Fatalf("%v, want ErrShrunk", err)
	}
}

func TestFollowBusy(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list)
	s.busy = 1
	f := Live(s, nil)
	if _, err := f.Next(); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v, want ErrBusy", err)
	}
	wantNew(t, f, list)
}

func TestFollowWithoutIMA(t *testing.T) {
	s := newSecurityfs(nil)
	s.files = nil
	if _, err := Live(s, nil).Next(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
	if _, err := LiveCount(s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
}

func TestLiveCount(t *testing.T) {
	list := odd(t)
	n, err := LiveCount(newSecurityfs(list))
	if n != len(list) || err != nil {
		t.Errorf("%d, %v, want %d", n, err, len(list))
	}
}
