package imalog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// securityfs is a file system whose lists grow and shrink while they are read,
// as the kernel's do: an open file reads what is there now, in pieces of less
// than a page, has no size, and cannot be sought from its end.
type securityfs struct {
	files     map[string][]byte
	open      int
	busy      int // so many opens fail with EBUSY
	listReads int
	step      int // bytes of a read, 4095 if zero
}

var liveDir = liveDirs[0]

func newSecurityfs(list []Record) *securityfs {
	s := &securityfs{files: map[string][]byte{}}
	s.set(list)
	return s
}

// set makes the current list.
func (s *securityfs) set(list []Record) {
	s.put(liveName, list)
	s.files[liveDir+countName] = []byte(strconv.Itoa(len(list)) + "\n")
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
	if strings.Contains(f.name, liveName) {
		f.s.listReads++
	}
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
	before := s.listReads
	s.set(list[:40])
	wantNew(t, f, list[21:40])
	if s.listReads-before > 4 {
		t.Errorf("%d reads for 19 new records", s.listReads-before)
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
		s.files[liveDir+countName] = []byte(strconv.Itoa(n)) // it moves whenever the list does
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

// Records that had been read were deleted or staged: what follows is new.
func TestFollowDeleted(t *testing.T) {
	list := odd(t)
	for name, change := range map[string]func(s *securityfs){
		"some deleted":              func(s *securityfs) { s.set(list[10:]) },
		"all but the last":          func(s *securityfs) { s.set(list[29:]) },
		"all staged":                func(s *securityfs) { s.put(liveName+"_sha1_staged", list[:30]); s.set(list[30:]) },
		"newer ones staged":         func(s *securityfs) { s.put(liveName+"_sha1_staged", list[:33]); s.set(list[33:]) },
		"deleted and staged":        func(s *securityfs) { s.put(liveName+"_staged", list[20:31]); s.set(list[31:]) },
		"staged and deleted, short": func(s *securityfs) { s.put(liveName+"_sha1_staged", list[28:29]); s.set(list[29:]) },
		"nothing":                   func(s *securityfs) { s.set(list) },
		"nothing, empty file":       func(s *securityfs) { s.put(liveName+"_sha1_staged", nil); s.set(list) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecurityfs(list[:30])
			f := Live(s, nil)
			wantNew(t, f, list[:30])
			if err := f.Pause(); err != nil {
				t.Fatal(err)
			}
			change(s)
			wantNew(t, f, list[30:])
			if f.Count() != len(list) || f.Close() != nil || s.open != 0 {
				t.Errorf("%d of %d records, %d files open", f.Count(), len(list), s.open)
			}
		})
	}
}

// A record that is in the list several times does not mislead: each unread record is
// returned, and one that was read only behind ErrShrunk.
func TestFollowDeletedAmongTheSame(t *testing.T) {
	m := newMachine(t)
	m.boot("")
	for range 6 {
		m.violation("/v")
	}
	m.run(3)
	for range 40 {
		m.violation("/v")
	}
	m.run(2)
	list := m.list
	shrunk := 0
	for read := 1; read < len(list); read++ {
		for deleted := 0; deleted <= read; deleted++ {
			s := newSecurityfs(list[:read])
			f := Live(s, nil)
			wantNew(t, f, list[:read])
			f.Pause()
			s.set(list[deleted:])
			rec, err := f.Next()
			want := list[read:]
			if errors.Is(err, ErrShrunk) {
				shrunk++
				if deleted == 0 {
					t.Errorf("%d read, none deleted: %v", read, err)
				}
				want = list[deleted:]
				rec, err = f.Next()
			}
			if err != nil || !bytes.Equal(encode(t, []Record{*rec}), encode(t, want[:1])) {
				t.Fatalf("%d read, %d deleted: %v, %v", read, deleted, rec, err)
			}
			wantNew(t, f, want[1:])
		}
	}
	t.Logf("%d times it could not be told", shrunk)
}

// What can't be told apart from a list that only grew is.
func TestFollowNothingButTheSame(t *testing.T) {
	m := newMachine(t)
	for range 53 {
		m.violation("/v")
	}
	list := m.list
	s := newSecurityfs(list[:50])
	f := Live(s, nil)
	wantNew(t, f, list[:50])
	f.Pause()
	s.set(list[10:])
	if _, err := f.Next(); !errors.Is(err, ErrShrunk) {
		t.Fatalf("%v, want ErrShrunk", err)
	}
	wantNew(t, f, list[10:])
}

// After a deletion the place is found at once again.
func TestFollowAfterDeletion(t *testing.T) {
	m := newMachine(t)
	m.boot("")
	m.run(2000)
	list := m.list
	s := newSecurityfs(list[:1900])
	f := Live(s, nil)
	wantNew(t, f, list[:1900])
	f.Pause()
	s.set(list[1880:1950]) // some of what is remembered is gone
	wantNew(t, f, list[1900:1950])
	for i := range 40 {
		f.Pause()
		before := s.listReads
		s.set(list[1880 : 1951+i])
		wantNew(t, f, list[1950+i:1951+i])
		if n := s.listReads - before; n > 6 {
			t.Fatalf("%d reads for one record", n)
		}
	}
	f.Pause()
	s.set(list[1985:])
	wantNew(t, f, list[1990:])
	if f.Count() != len(list) {
		t.Errorf("count %d of %d", f.Count(), len(list))
	}
}

func TestFollowShrunk(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list[:30])
	f := Live(s, nil)
	wantNew(t, f, list[:30])
	f.Pause()
	s.set(list[35:]) // 30 to 34 came and went
	if _, err := f.Next(); !errors.Is(err, ErrShrunk) {
		t.Fatalf("%v, want ErrShrunk", err)
	}
	wantNew(t, f, list[35:])
	if f.Count() != len(list)-35 {
		t.Errorf("count %d", f.Count())
	}
}

func TestFollowBusy(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list)
	s.busy = 1
	f := Live(s, &FollowOptions{Busy: -1})
	if _, err := f.Next(); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v, want ErrBusy", err)
	}
	wantNew(t, f, list)
	f.Pause()
	s.busy = 3
	f.opts.Busy = time.Minute
	wantNew(t, f, nil)

	// The current file is busy when the staged one has been read.
	s = newSecurityfs(list[30:])
	s.put(liveName+"_sha1_staged", list[:30])
	f = Live(s, &FollowOptions{Busy: -1})
	for range 30 {
		s.busy = 0
		if _, err := f.Next(); err != nil {
			t.Fatal(err)
		}
	}
	s.busy = 1
	if _, err := f.Next(); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v, want ErrBusy", err)
	}
	wantNew(t, f, list[30:])
}

// Where there is nothing new, the list itself is left alone.
func TestFollowIdle(t *testing.T) {
	list := odd(t)
	s := newSecurityfs(list[:20])
	f := Live(s, nil)
	wantNew(t, f, list[:20])
	wantNew(t, f, nil)
	before := s.listReads
	for range 100 {
		wantNew(t, f, nil)
	}
	if s.listReads != before {
		t.Errorf("%d reads of a list that has nothing new", s.listReads-before)
	}
	s.set(list)
	wantNew(t, f, list[20:])

	// Without a count it is read.
	delete(s.files, liveDir+countName)
	more := append(list, list[5])
	s.put(liveName, more)
	wantNew(t, f, more[len(list):])
}

func TestFollowAlg(t *testing.T) {
	c := captured{"testdata/imakexec/staged/staged"}
	b, opts := c.binary(t, "sha256")
	list := records(t, b, opts)
	s := newSecurityfs(nil)
	s.files = map[string][]byte{
		liveDirs[1] + liveName + "_sha256":        c.read(t, liveName+"_sha256"),
		liveDirs[1] + liveName + "_sha256_staged": c.read(t, liveName+"_sha256_staged"),
	}
	wantNew(t, Live(s, &FollowOptions{Alg: AlgSHA256}), list)
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

// alike has boots that measure the same, as each does after a kexec: 42 records.
func alike(t testing.TB, boots int) []Record {
	m := newMachine(t)
	for range boots {
		m.boot("6.12")
		m.files = 0
		m.run(40)
	}
	return m.list
}

// Records that are twice in the list are neither read again nor passed over without a
// word when some were deleted.
func TestFollowDeletedAmongBootsAlike(t *testing.T) {
	for name, tt := range map[string]struct{ boots, read, deleted int }{
		"the oldest record":   {2, 84, 1},
		"half a boot":         {2, 84, 20},
		"a boot":              {3, 80, 42},
		"a boot, all read":    {3, 126, 42},
		"nearly two, of four": {4, 100, 80},
		"nothing":             {3, 80, 0},
	} {
		list := alike(t, tt.boots)
		s := newSecurityfs(list)
		f := Live(s, nil)
		for range tt.read {
			if _, err := f.Next(); err != nil {
				t.Fatal(err)
			}
		}
		f.Pause()
		s.set(list[tt.deleted:])
		n := 0
		_, err := f.Next()
		for ; err == nil; _, err = f.Next() {
			n++
		}
		switch {
		case errors.Is(err, ErrShrunk) && tt.deleted > 0:
		case err != io.EOF || n != len(list)-tt.read:
			t.Errorf("%s: %d records are new, not %d, %v", name, n, len(list)-tt.read, err)
		}
	}
}
