package imalog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"syscall"
)

// ErrShrunk means that a live list has lost records that had been read: Linux
// 7.2 and later let root delete the oldest ones.
var ErrShrunk = errors.New("imalog: the live list has lost its oldest records: read it from the beginning")

// ErrBusy means that another process has a live list open for writing.
var ErrBusy = errors.New("imalog: the live list is busy: another process is deleting or staging records")

// Where securityfs has the lists, oldest name last.
var liveDirs = [...]string{"sys/kernel/security/ima", "sys/kernel/security/integrity/ima"}

const liveName = "binary_runtime_measurements"

// FollowOptions say which list is followed. The zero value is
// binary_runtime_measurements.
type FollowOptions struct {
	// Alg selects the file with digests of an algorithm, binary_runtime_measurements_<alg>
	// (Linux 6.10 and later). Zero is the plain file, with SHA-1 digests.
	Alg uint16
	// Reader says how the list is read; DigestSize follows from Alg if it is zero.
	Reader ReaderOptions
}

// A Follower reads a live list: all of it once, and then only what is new.
//
// While its file is open, Linux 7.2 and later refuse to delete records; Pause
// closes it without losing the place.
type Follower struct {
	fsys   fs.FS
	opts   ReaderOptions
	suffix string

	dir     string
	file    fs.File
	staged  bool // file is the staged list
	list    *Reader
	skipped int64 // bytes of the list before the file
	last    []byte
}

// Live returns a Follower of the running kernel's list. The root of fsys is that
// of the file system: os.DirFS("/"). Records that are staged for deletion (Linux
// 7.2 and later) come first.
func Live(fsys fs.FS, opts *FollowOptions) *Follower {
	f := &Follower{fsys: fsys}
	if opts != nil {
		f.opts = opts.Reader
		if opts.Alg != 0 {
			f.suffix = "_" + AlgName(opts.Alg)
			if f.opts.DigestSize == 0 {
				f.opts.DigestSize = AlgSize(opts.Alg)
			}
		}
	}
	f.list = NewReader(follow{f}, &f.opts)
	return f
}

// follow reads from whichever file the Follower is at.
type follow struct{ f *Follower }

func (r follow) Read(p []byte) (int, error) {
	n, err := r.f.file.Read(p)
	return n, err
}

// Next returns the next record, valid until the next call. The error is io.EOF
// when there is nothing new at the moment: call again later, LiveCount tells
// when. It unwraps to ErrShrunk when records that had been read are gone, to
// ErrBusy when the file could not be opened for another process, and to
// fs.ErrNotExist when there is no list.
func (f *Follower) Next() (*Record, error) {
	if f.list.err != nil && f.list.err != io.EOF {
		return nil, f.list.err
	}
	if f.file == nil {
		if err := f.open(); err != nil {
			return nil, err
		}
	}
	for {
		err := f.list.next()
		if err == nil {
			f.last, err = f.list.rec.AppendBinary(f.last[:0])
			if err != nil {
				return nil, err
			}
			return &f.list.rec, nil
		}
		if err != io.EOF {
			f.list.err = &RecordError{f.list.offset, f.list.count, err}
			return nil, f.list.err
		}
		if !f.staged {
			return nil, io.EOF
		}
		if err := f.current(); err != nil {
			return nil, err
		}
	}
}

// Count returns the number of records read so far, staged ones included.
func (f *Follower) Count() int { return f.list.count }

// Offset returns the number of bytes of the records read so far.
func (f *Follower) Offset() int64 { return f.list.offset }

// Pause closes the file and keeps the place: the next call of Next opens it
// again. Linux 7.2 and later do not let records be deleted while it is open.
func (f *Follower) Pause() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	f.list.in.drop()
	return err
}

// Close ends the Follower.
func (f *Follower) Close() error {
	err := f.Pause()
	if f.list.err == nil {
		f.list.err = fs.ErrClosed
	}
	return err
}

// open opens the list and finds the place in it.
func (f *Follower) open() error {
	if err := f.begin(); err != nil {
		return err
	}
	if f.list.count == 0 {
		return nil
	}
	offset := f.list.offset - int64(len(f.last))
	err := f.skip(offset)
	if err == nil {
		again := make([]byte, len(f.last))
		if _, err = io.ReadFull(follow{f}, again); err == nil && bytes.Equal(again, f.last) {
			return nil
		}
	}
	f.file.Close()
	f.file = nil
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		err = ErrShrunk
	}
	return err
}

// begin opens the first file of the list: the staged one if there is one.
func (f *Follower) begin() error {
	var missing error
	for _, dir := range liveDirs {
		f.dir = dir
		for _, staged := range []bool{true, false} {
			err := f.openFile(staged)
			if err == nil {
				return nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if missing == nil && !staged {
				missing = err
			}
		}
	}
	return missing
}

func (f *Follower) openFile(staged bool) error {
	name := f.dir + "/" + liveName + f.suffix
	if staged {
		if f.suffix == "" {
			name += "_sha1"
		}
		name += "_staged"
	}
	file, err := f.fsys.Open(name)
	if errors.Is(err, syscall.EBUSY) {
		return &fs.PathError{Op: "open", Path: name, Err: ErrBusy}
	}
	if err != nil {
		return err
	}
	f.file, f.staged = file, staged
	return nil
}

// current goes on from the staged list to the current one.
func (f *Follower) current() error {
	if err := f.file.Close(); err != nil {
		return err
	}
	f.file = nil
	return f.openFile(false)
}

// skip reads over so many bytes of the list.
func (f *Follower) skip(n int64) error {
	if s, ok := f.file.(io.Seeker); ok && !f.staged {
		_, err := s.Seek(n, io.SeekStart)
		return err
	}
	buf := make([]byte, readSize)
	for n > 0 {
		m, err := f.file.Read(buf[:min(n, int64(len(buf)))])
		n -= int64(m)
		if n == 0 {
			break
		}
		if err == io.EOF && f.staged {
			err = f.current()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// LiveCount returns the number of records that the running kernel's list has
// (runtime_measurements_count), which is the cheap way to see that it has grown.
// Staged records are not in it. The root of fsys is that of the file system.
func LiveCount(fsys fs.FS) (int, error) {
	var missing error
	for _, dir := range liveDirs {
		name := dir + "/runtime_measurements_count"
		b, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			if missing == nil {
				missing = err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		return n, nil
	}
	return 0, missing
}
