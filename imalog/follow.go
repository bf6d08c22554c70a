package imalog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"syscall"
	"time"
)

// ErrShrunk means that a live list has lost records that nobody can say were all
// read: Linux 7.2 and later let root delete the oldest ones.
var ErrShrunk = errors.New("imalog: records were deleted from the live list, and what had been read last is no longer there: read it from the beginning")

// ErrBusy means that another process has a live list open for writing.
var ErrBusy = errors.New("imalog: another process is deleting or staging records: try again")

// Where securityfs has the lists; the second is their name of old.
var liveDirs = [...]string{"sys/kernel/security/ima/", "sys/kernel/security/integrity/ima/"}

const (
	liveName  = "binary_runtime_measurements"
	countName = "runtime_measurements_count"
)

// FollowOptions say which list is followed, and how. The zero value is
// binary_runtime_measurements.
type FollowOptions struct {
	// Alg selects the file with digests of an algorithm, binary_runtime_measurements_<alg>
	// (Linux 6.10 and later). Zero is the plain file, with SHA-1 digests.
	Alg uint16
	// Reader says how the list is read; DigestSize follows from Alg if it is zero.
	Reader ReaderOptions
	// Busy is how long Next waits for another process that deletes or stages
	// records. Zero is one second; less than zero, not at all.
	Busy time.Duration
}

// A Follower reads a live list: all of it once, and then only what is new. It is
// for one goroutine at a time.
//
// A new record costs a read of the tail; where there is none, a look at
// runtime_measurements_count. While its file is open, Linux 7.2 and later refuse
// to delete records; Pause closes it without losing the place.
type Follower struct {
	fsys fs.FS
	opts FollowOptions

	dir    string
	file   fs.File
	staged bool // file is the staged list
	list   *Reader
	head   print // of the list's first record
	trail  trail
	base   int64 // bytes that were deleted before the head
	total  int   // what the kernel's count was at Pause; -1: not known
	ended  bool  // there was nothing new
	idle   int   // what the kernel's count was then; -1: not known
}

// Live returns a Follower of the running kernel's list. The root of fsys is that
// of the file system: os.DirFS("/"). Records that are staged for deletion (Linux
// 7.2 and later) come first.
func Live(fsys fs.FS, opts *FollowOptions) *Follower {
	f := &Follower{fsys: fsys, idle: -1}
	if opts != nil {
		f.opts = *opts
	}
	if f.opts.Reader.DigestSize == 0 {
		f.opts.Reader.DigestSize = AlgSize(f.opts.Alg)
	}
	if f.opts.Busy == 0 {
		f.opts.Busy = time.Second
	}
	f.list = NewReader(source{f}, &f.opts.Reader)
	return f
}

// A source reads the bytes of the list, those of the staged file first.
type source struct{ *Follower }

func (f source) Read(p []byte) (int, error) {
	for {
		n, err := f.file.Read(p)
		if n > 0 || err != io.EOF || !f.staged {
			return n, err
		}
		if err := f.current(); err != nil {
			return 0, err
		}
	}
}

// Next returns the next record, valid until the next call. The error is io.EOF
// when there is nothing new at the moment: call again later. A record that is
// half there is nothing new.
//
// Records that were deleted after they were read are not missed. If it cannot be
// seen that all had been read, the error is ErrShrunk, once, and the next call
// begins with the oldest record that is there. What was read last is known by its
// last 32 records. A list that has crossed a kexec may have them twice: where both
// places are there it is ErrShrunk, and where the one was deleted, and as much measured
// since, nobody can tell. Other errors unwrap to ErrBusy when another
// process kept the list for longer than FollowOptions.Busy, to fs.ErrNotExist
// when there is no list, or to what Reader.Next returns; the latter stay.
func (f *Follower) Next() (*Record, error) {
	if f.list.err != nil {
		return nil, f.list.err
	}
	if f.file == nil {
		if err := f.open(); err != nil {
			return nil, err
		}
	}
	if f.ended && len(f.list.in.unused()) == 0 {
		count, err := readCount(f.fsys, f.dir)
		if err == nil && count == f.idle {
			return nil, io.EOF
		}
		if f.idle = count; err != nil {
			f.idle = -1
		}
	}
	err := f.list.next()
	if err == io.EOF {
		f.ended = true
		return nil, io.EOF
	}
	f.ended, f.idle = false, -1
	switch {
	case err == nil:
		if p := f.trail.add(&f.list.rec); f.trail.n == 1 {
			f.head = p
		}
		return &f.list.rec, nil
	case f.file == nil: // the current list could not be opened behind the staged one
		return nil, err
	}
	f.list.err = &RecordError{f.list.offset, f.list.count, err}
	return nil, f.list.err
}

// Count returns the number of records read so far, staged ones included.
func (f *Follower) Count() int { return f.list.count }

// Offset returns the number of bytes of the records read so far.
func (f *Follower) Offset() int64 { return f.list.offset }

// Pause closes the file and keeps the place: the next call of Next opens it
// again.
func (f *Follower) Pause() error {
	if f.file == nil {
		return nil
	}
	total, err := readCount(f.fsys, f.dir)
	if err != nil {
		total = -1
	}
	f.total = total
	return f.close()
}

// close closes the file.
func (f *Follower) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	f.ended, f.idle = false, -1
	f.list.in.drop()
	return err
}

// Close ends the Follower.
func (f *Follower) Close() error {
	err := f.close()
	if f.list.err == nil {
		f.list.err = fs.ErrClosed
	}
	return err
}

// open opens the list and finds the place in it.
func (f *Follower) open() error {
	found, err := f.resume()
	if err == nil && !found {
		err = ErrShrunk
		f.list.count, f.list.offset, f.base, f.trail = 0, 0, 0, trail{}
	}
	if err != nil {
		f.close()
	}
	return err
}

// resume goes to where the Follower was.
func (f *Follower) resume() (found bool, err error) {
	if err := f.begin(); err != nil || f.trail.n == 0 {
		return err == nil, err
	}
	// Fewer than there were: the same records elsewhere are others.
	if n, err := readCount(f.fsys, f.dir); err != nil || n >= f.total {
		if found, err := f.unchanged(); found || err != nil {
			return found, err
		}
	}
	place, err := f.search()
	if err != nil || place < 0 {
		return false, err
	}
	return true, f.beginAt(place)
}

// unchanged goes to where the Follower was, if nothing was deleted since.
func (f *Follower) unchanged() (bool, error) {
	place := f.list.offset - f.base
	size := f.trail.bytes()
	again, err := f.retrace(place-size, size)
	if err != nil {
		return false, err
	}
	n, distinct := again.overlap(&f.trail)
	if n < min(f.trail.n, trailLength) {
		return false, nil
	}
	if distinct {
		return true, nil
	}
	// These could be others: nothing was deleted if the list begins as it did.
	if err := f.begin(); err != nil || f.head.violation {
		return false, err
	}
	first, err := f.retrace(0, int64(f.head.size))
	if err != nil || first.prints[0] != f.head {
		return false, err
	}
	return true, f.beginAt(place)
}

// retrace reads a part of the list again. It returns the records that it holds.
func (f *Follower) retrace(place, size int64) (again trail, err error) {
	if err := f.skip(place); err != nil {
		if err == io.EOF { // shorter than it was
			err = nil
		}
		return again, err
	}
	list := NewReader(io.LimitReader(source{f}, size), &f.opts.Reader)
	for again.n < trailLength {
		rec, err := list.Next()
		switch {
		case err == nil:
			again.add(rec)
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrFormat), errors.Is(err, ErrTooLarge):
			return again, nil
		default:
			return again, err
		}
	}
	return again, nil
}

// search looks for what was read last in a list that has changed: the one place before
// which it stands, as much of it as there is. It is -1 where there is none, and where
// there are several.
func (f *Follower) search() (place int64, err error) {
	if err := f.begin(); err != nil {
		return 0, err
	}
	list := NewReader(source{f}, &f.opts.Reader)
	var head print
	var seen, best trail
	places := 0
	for {
		rec, err := list.Next()
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if p := seen.add(rec); seen.n == 1 {
			head = p
		}
		if _, distinct := seen.overlap(&f.trail); distinct {
			place, best = list.Offset(), seen
			places++
		}
	}
	if places != 1 {
		return -1, nil
	}
	f.head, f.trail, f.base = head, best, f.list.offset-place
	return place, nil
}

// beginAt opens the list at a place.
func (f *Follower) beginAt(place int64) error {
	if err := f.begin(); err != nil {
		return err
	}
	return f.skip(place)
}

// skip reads over so many bytes of the list.
func (f *Follower) skip(n int64) error {
	if s, ok := f.file.(io.Seeker); ok && !f.staged {
		_, err := s.Seek(n, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, source{f}, n)
	return err
}

// begin opens the first file of the list: the staged one if there is one.
func (f *Follower) begin() error {
	if err := f.close(); err != nil {
		return err
	}
	var missing error
	for _, f.dir = range liveDirs {
		err := f.openFile(true)
		if errors.Is(err, fs.ErrNotExist) {
			err = f.openFile(false)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if missing == nil {
			missing = err
		}
	}
	return missing
}

// current goes on from the staged list to the current one. It opens the one
// before it closes the other, so that nothing can be staged between. If it fails
// the place is kept and the file closed.
func (f *Follower) current() error {
	staged := f.file
	err := f.openFile(false)
	if closed := staged.Close(); err == nil {
		err = closed
	}
	if err != nil {
		f.Pause()
	}
	return err
}

func (f *Follower) openFile(staged bool) error {
	alg := AlgName(f.opts.Alg)
	if !staged {
		name := liveName
		if alg != "" {
			name += "_" + alg
		}
		return f.tryFile(name, false)
	}
	if alg != "" {
		return f.tryFile(liveName+"_"+alg+"_staged", true)
	}
	err := f.tryFile(liveName+"_sha1_staged", true)
	if errors.Is(err, fs.ErrNotExist) {
		err = f.tryFile(liveName+"_staged", true)
	}
	return err
}

func (f *Follower) tryFile(name string, staged bool) error {
	for waited := time.Duration(0); ; waited += busyPoll {
		file, err := f.fsys.Open(f.dir + name)
		if err == nil {
			f.file, f.staged = file, staged
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		if waited >= f.opts.Busy {
			return &fs.PathError{Op: "open", Path: f.dir + name, Err: ErrBusy}
		}
		time.Sleep(busyPoll)
	}
}

// busyPoll is how often a list is tried that is busy: nothing tells when it no
// longer is.
const busyPoll = 10 * time.Millisecond

// LiveCount returns the number of records that the running kernel's list has
// (runtime_measurements_count), which is the cheap way to see that it has grown.
// Staged records are not in it. The root of fsys is that of the file system.
func LiveCount(fsys fs.FS) (int, error) {
	n, err := readCount(fsys, liveDirs[0])
	if errors.Is(err, fs.ErrNotExist) {
		if n, old := readCount(fsys, liveDirs[1]); old == nil {
			return n, nil
		}
	}
	return n, err
}

func readCount(fsys fs.FS, dir string) (int, error) {
	b, err := fs.ReadFile(fsys, dir+countName)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: dir + countName, Err: err}
	}
	return n, nil
}

// A trail is what a reader remembers of the records it has read last.
type trail struct {
	n      int                // records so far
	prints [trailLength]print // of record i at i%trailLength
	buf    []byte
}

// A print is a record's size and its FNV-1a hash.
type print struct {
	size      int
	sum       uint64
	violation bool
}

// trailLength is the number of records by which a place is found again: one
// record can be in a list many times, such as a violation.
const trailLength = 32

func (t *trail) add(rec *Record) print {
	t.buf, _ = rec.AppendBinary(t.buf[:0]) // it was read, so it can be written
	p := print{len(t.buf), 14695981039346656037, rec.Violation()}
	for _, c := range t.buf {
		p.sum = (p.sum ^ uint64(c)) * 1099511628211
	}
	t.prints[t.n%trailLength] = p
	t.n++
	return p
}

// bytes returns the size of the records that are remembered.
func (t *trail) bytes() (n int64) {
	for _, p := range t.prints {
		n += int64(p.size)
	}
	return n
}

// overlap returns how many records both end with, as far as each goes back, and
// whether a list has one of them once; 0 where they differ.
func (t *trail) overlap(u *trail) (n int, distinct bool) {
	n = min(t.n, u.n, trailLength)
	for i := 1; i <= n; i++ {
		p := t.prints[(t.n-i)%trailLength]
		if p != u.prints[(u.n-i)%trailLength] {
			return 0, false
		}
		distinct = distinct || !p.violation
	}
	return n, distinct
}
