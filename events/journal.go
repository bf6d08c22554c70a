package events

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imakexec/imakexec/imalog"
)

// Errors of a journal.
var (
	// ErrUnsafe: the directory or the file is a symbolic link, belongs to
	// somebody else, or others may get at it.
	ErrUnsafe = errors.New("journal is not safe from others")
	// ErrBusy: another process is measuring at this moment. Nothing was
	// extended; try again when it is done.
	ErrBusy = errors.New("journal is in use by another measurement")
	// ErrFull: the last entry has the highest number there is, as only a damaged
	// journal has.
	ErrFull = errors.New("journal takes no more entries")
	// ErrReadOnly: the journal was opened for reading.
	ErrReadOnly = errors.New("journal is open for reading only")
	// ErrBootID: there is no boot id to tell this boot from another.
	ErrBootID = errors.New("no boot id: set JournalOptions.BootID")
)

// bootIDFile names the present boot of a Linux kernel (drivers/char/random.c).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// JournalOptions configures OpenJournal.
type JournalOptions struct {
	// BootID names the present boot. "": /proc/sys/kernel/random/boot_id.
	BootID string
	// ReadOnly opens a journal to look at it. One that does not exist is empty.
	ReadOnly bool
}

// A Journal keeps what user space measured during the present boot until the
// kexec carries it into the kernel's list. The package documentation has its
// format. It is safe for concurrent use, by several processes too.
type Journal struct {
	path     string
	bootID   string
	readOnly bool
	self     writer
	measure  chan struct{} // held by the Measurer at work

	mu      sync.Mutex
	file    journalFile // nil: it does not exist yet, or is closed
	closed  bool
	offset  int64 // lines before it were read
	entries []journaled
	skipped int
	owed    []byte // lines on outcomes that found no room
}

type journaled struct {
	Entry
	owner writer
	over  bool // the measurement ended, whatever came of it
}

// journalFile is what a Journal needs of an *os.File.
type journalFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error
}

// OpenJournal opens the journal of the present boot in directory dir, which is
// made, with mode 0700, where it does not exist. The file in it is
// journal-<boot id>.jsonl, mode 0600; a writer removes those of other boots.
//
// Neither the directory nor the file may be a symbolic link, belong to somebody
// else, or be open to group or others (ErrUnsafe): what is read here decides
// which records a PCR stands for. Links further up the path are followed.
func OpenJournal(dir string, opts *JournalOptions) (*Journal, error) {
	var o JournalOptions
	if opts != nil {
		o = *opts
	}
	bootID := o.BootID
	if bootID == "" {
		b, err := os.ReadFile(bootIDFile)
		if err != nil {
			return nil, fmt.Errorf("events: journal %s: %w (%w)", dir, ErrBootID, err)
		}
		bootID = strings.TrimSpace(string(b))
	}
	dir = filepath.Clean(dir) // a link with a slash behind it is no link to lstat(2)
	if !validBootID(bootID) {
		return nil, fmt.Errorf("events: journal %s: %w: %.80q is none", dir, ErrBootID, bootID)
	}
	j := &Journal{
		path:     filepath.Join(dir, journalName(bootID)),
		bootID:   bootID,
		readOnly: o.ReadOnly,
		self:     newWriter(),
		measure:  make(chan struct{}, 1),
	}
	if err := j.open(); err != nil {
		return nil, fmt.Errorf("events: journal %s: %w", j.path, err)
	}
	if err := j.Reload(); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

const (
	journalPrefix = "journal-"
	journalSuffix = ".jsonl"
)

func journalName(bootID string) string { return journalPrefix + bootID + journalSuffix }

// validBootID accepts what can be part of a file name anywhere.
func validBootID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}

func (j *Journal) open() error {
	dir := filepath.Dir(j.path)
	if !j.readOnly {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	info, err := os.Lstat(dir)
	if j.readOnly && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: %s is not a directory", ErrUnsafe, dir)
	}
	if err := private(dir, info, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// What was opened is what was looked at, even if the path was changed since.
	opened, err := root.Stat(".")
	if err != nil {
		return err
	}
	if !os.SameFile(info, opened) {
		return fmt.Errorf("%w: %s was replaced while it was opened", ErrUnsafe, dir)
	}
	f, err := j.openFile(root)
	if err != nil || f == nil {
		return err
	}
	j.file = f
	return nil
}

// openFile opens the file of this boot, which has to be a regular one and not
// the target of a link.
func (j *Journal) openFile(root *os.Root) (*os.File, error) {
	name := filepath.Base(j.path)
	flags := os.O_RDWR | os.O_APPEND
	if j.readOnly {
		flags = os.O_RDONLY
	}
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if j.readOnly {
			return nil, nil
		}
		f, err := root.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			if err = j.begin(root); err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		// Another writer was faster.
		info, err = root.Lstat(name)
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrUnsafe)
	}
	if err := private(j.path, info, 0o600); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = fmt.Errorf("%w: replaced while it was opened", ErrUnsafe)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// begin makes the new file last and removes those of other boots, which nobody
// writes any more.
func (j *Journal) begin(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == filepath.Base(j.path) || !strings.HasPrefix(name, journalPrefix) || !strings.HasSuffix(name, journalSuffix) {
			continue
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := d.Sync(); err != nil && runtime.GOOS != "windows" { // which cannot sync a directory
		return err
	}
	return nil
}

// private refuses a file of somebody else and one that others can get at.
func private(path string, info fs.FileInfo, want fs.FileMode) error {
	if runtime.GOOS != "windows" && info.Mode().Perm()&^want != 0 {
		return fmt.Errorf("%w: mode %#o: chmod %o %s", ErrUnsafe, info.Mode().Perm(), want, path)
	}
	if uid, ok := owner(info); ok && uid != 0 && int(uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d", ErrUnsafe, path, uid)
	}
	return nil
}

// Path returns the name of the journal's file.
func (j *Journal) Path() string { return j.path }

// BootID returns the boot that the journal belongs to.
func (j *Journal) BootID() string { return j.bootID }

// Entries returns the entries read so far, in order. They share their bytes
// with the journal and must not be changed.
func (j *Journal) Entries() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	entries := make([]Entry, len(j.entries))
	for i := range j.entries {
		entries[i] = j.entries[i].Entry
	}
	return entries
}

// Skipped returns how many lines could not be read: torn by a full disk or a
// writer that was killed. Nothing was extended for such a line.
func (j *Journal) Skipped() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.skipped
}

// Reload reads what was written since, by this process or another.
func (j *Journal) Reload() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.read(); err != nil {
		return fmt.Errorf("events: journal %s: %w", j.path, err)
	}
	return nil
}

// read takes in the lines that are new and returns what follows the last of
// them: a line without its end, torn or still being written.
func (j *Journal) read() (torn []byte, err error) {
	if j.file == nil && j.readOnly && !j.closed { // it was not there yet
		if err := j.open(); err != nil {
			return nil, err
		}
	}
	if j.file == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.NewSectionReader(j.file, j.offset, 1<<62-j.offset))
	if err != nil {
		return nil, err
	}
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return b, nil
		}
		j.take(b[:end])
		b = b[end+1:]
		j.offset += int64(end) + 1
	}
}

// take judges one line. Of two entries with the same number the first counts:
// the writer of the second had not seen it, and knows by now.
func (j *Journal) take(b []byte) {
	if len(b) == 0 {
		return
	}
	var l line
	if json.Unmarshal(b, &l) != nil {
		j.skipped++
		return
	}
	if l.BootID != j.bootID {
		return
	}
	if l.State != "" {
		j.settled(&l)
		return
	}
	if n := len(j.entries); n > 0 && l.Seq <= j.entries[n-1].Seq {
		return
	}
	e, err := l.entry()
	if err != nil || l.Seq == 0 || l.Writer == nil {
		j.skipped++
		return
	}
	j.entries = append(j.entries, journaled{Entry: e, owner: *l.Writer})
}

func (j *Journal) settled(l *line) {
	i := j.find(l.Seq)
	if i < 0 || j.entries[i].State != Unsettled {
		return
	}
	after, err := parseValues(l.After)
	if err != nil {
		j.skipped++
		return
	}
	j.entries[i].over = true
	switch l.State {
	case Extended.String():
		j.entries[i].State, j.entries[i].After = Extended, after
	case Dropped.String():
		j.entries[i].State = Dropped
	}
}

func (j *Journal) find(seq uint64) int {
	i, ok := slices.BinarySearchFunc(j.entries, seq, func(e journaled, seq uint64) int {
		return cmp.Compare(e.Seq, seq)
	})
	if !ok {
		return -1
	}
	return i
}

// Append writes an entry and syncs it, and returns its number. Only when it
// returns without an error may the record be extended. It fails with ErrBusy
// while another living process has an entry that it has not settled, or was
// faster at this one; a full disk leaves the entries as they were.
//
// Measurer.Measure does all this; few others need to.
func (j *Journal) Append(e Entry) (uint64, error) { return j.appendBehind(e, anyEntry) }

// appendBehind is Append, but ErrBusy too where others came behind entry last.
func (j *Journal) appendBehind(e Entry, last uint64) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	seq, err := j.append(e, last)
	if err != nil {
		return 0, fmt.Errorf("events: journal %s: %w", j.path, err)
	}
	return seq, nil
}

// anyEntry is no number of an entry.
const anyEntry = 1<<64 - 1

// last returns the number of the last entry, 0 if there is none.
func (j *Journal) last() (uint64, error) {
	if err := j.Reload(); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.entries) == 0 {
		return 0, nil
	}
	return j.entries[len(j.entries)-1].Seq, nil
}

// errOvertaken is an ErrBusy after which the PCR has to be read again.
var errOvertaken = fmt.Errorf("%w: another process measured meanwhile", ErrBusy)

func (j *Journal) append(e Entry, last uint64) (uint64, error) {
	switch {
	case j.readOnly:
		return 0, ErrReadOnly
	case j.file == nil:
		return 0, fs.ErrClosed
	}
	if err := j.pay(); err != nil {
		return 0, err
	}
	torn, err := j.read()
	if err != nil {
		return 0, err
	}
	e.Seq = 1
	for _, other := range j.entries {
		e.Seq = other.Seq + 1
		if !other.over && other.owner.ID != j.self.ID && other.owner.alive() {
			return 0, fmt.Errorf("%w: entry %d of process %d is not settled", ErrBusy, other.Seq, other.owner.PID)
		}
	}
	if e.Seq == 0 {
		return 0, ErrFull
	}
	if last != anyEntry && e.Seq != last+1 {
		return 0, errOvertaken
	}
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	// The line tells nothing of what becomes of it; that is a second line's.
	b, err := encodeEntry(&e, j.bootID, j.self)
	if err != nil {
		return 0, err
	}
	if err := j.write(torn, b); err != nil {
		return 0, err
	}
	if _, err := j.read(); err != nil {
		return 0, err
	}
	i := j.find(e.Seq)
	if i < 0 || j.entries[i].owner.ID != j.self.ID {
		return 0, fmt.Errorf("%w, entry %d", errOvertaken, e.Seq)
	}
	if err := j.file.Sync(); err != nil {
		j.writeState(e.Seq, Dropped.String(), nil) // nothing will be extended; if that cannot be kept, Splice finds it
		return 0, err
	}
	return e.Seq, nil
}

// write appends one line with one write, behind the end of a torn one.
func (j *Journal) write(torn, b []byte) error {
	if len(torn) > 0 {
		b = append([]byte("#torn\n"), b...)
	}
	_, err := j.file.Write(b)
	return err
}

// Settle notes what became of an entry: Extended, with the PCR afterwards where
// it is known, or Dropped; Unsettled says that nobody knows and the measurement
// is over. To lose this line does no harm, since Splice finds out by itself.
func (j *Journal) Settle(seq uint64, state State, after imalog.Values) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := state.String()
	switch {
	case j.readOnly:
		return fmt.Errorf("events: journal %s: %w", j.path, ErrReadOnly)
	case j.file == nil:
		return fmt.Errorf("events: journal %s: %w", j.path, fs.ErrClosed)
	case j.find(seq) < 0 || state > Dropped:
		return fmt.Errorf("events: journal %s: no entry %d to be %s", j.path, seq, text)
	case state == Unsettled:
		text = stateUnknown
	}
	if err := j.writeState(seq, text, after); err != nil {
		return fmt.Errorf("events: journal %s: %w", j.path, err)
	}
	return nil
}

// writeState appends what became of an entry. The entry in memory knows it even
// if the disk does not; it is written with the next line, or by Close, then.
func (j *Journal) writeState(seq uint64, state string, after imalog.Values) error {
	l := line{Seq: seq, BootID: j.bootID, Time: time.Now().UTC(), State: state, After: hexValues(after)}
	j.settled(&l)
	b, err := encodeLine(&l)
	if err != nil {
		return err
	}
	j.owed = append(j.owed, b...)
	return j.pay()
}

// pay writes the outcomes that are owed.
func (j *Journal) pay() error {
	if len(j.owed) == 0 {
		return nil
	}
	torn, err := j.read()
	if err != nil {
		return err
	}
	if err := j.write(torn, j.owed); err != nil {
		return err
	}
	j.owed = nil
	return j.file.Sync()
}

// Close closes the file. Entries stay readable. An error says that an outcome
// could not be written, which Splice then finds out again.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.file == nil {
		return nil
	}
	err := j.pay()
	err = errors.Join(err, j.file.Close())
	j.file = nil
	return err
}
