package handover

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/kexecseg"
)

// What Resume needs is one JSON file in the state directory, beside the journal.
// It is replaced as a whole. The bytes of a persisted image lie in a file that it
// names by their digest, written before it; older ones are removed after.
const (
	stateFile   = "handover.json"
	imagePrefix = "image-"
)

type state struct {
	BootID       string         `json:"boot_id"`
	ID           string         `json:"id"` // of the Load: an older Handover sees that it was replaced
	PCR          uint32         `json:"pcr"`
	Figures      events.Figures `json:"kexec_load"`
	LoadMeasured bool           `json:"kexec_load_measured"`
	Proved       bool           `json:"proved"` // the list replayed at Load
	Image        *savedImage    `json:"image,omitempty"`
}

type savedImage struct {
	Entry    uint64         `json:"entry"`
	Flags    uint64         `json:"flags"`
	IMA      kexecseg.Range `json:"ima"`
	Segments []savedSegment `json:"segments"`
	Digest   string         `json:"sha256"` // of every byte of the file
}

type savedSegment struct {
	Phys kexecseg.Range `json:"phys"`
	Size uint64         `json:"size"` // of its bytes in the file, which follow each other
}

func (s *savedImage) file() string { return imagePrefix + s.Digest[:16] }

// bootID tells this boot from every other one (drivers/char/random.c).
func bootID(fsys fs.FS) (string, error) {
	b, err := fs.ReadFile(fsys, "proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// newID names one Load.
func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}

// makeStateDir makes the directory where there is none. That it is one that nobody
// else can use is for the journal to check, which is opened next.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// readState returns the state of this boot; ErrNothingLoaded when there is none.
func readState(dir, boot string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNothingLoaded
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s is damaged, load again: %w", path, err)
	}
	if s.BootID != boot {
		return nil, fmt.Errorf("%w: %s is of an earlier one", ErrNothingLoaded, path)
	}
	if img := s.Image; img != nil && len(img.Digest) != 2*sha256.Size {
		return nil, fmt.Errorf("%s is damaged, load again: its image has no digest", path)
	}
	return &s, nil
}

// note replaces the state alone; that of no Load is none.
func (s *state) note(dir string) error {
	if s.ID == "" {
		return removeStateFile(dir)
	}
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(dir, stateFile, append(b, '\n'))
}

// write replaces the state, and then removes images that it does not name.
func (s *state) write(dir string) error {
	if err := s.note(dir); err != nil {
		return err
	}
	keep := ""
	if s.Image != nil {
		keep = s.Image.file()
	}
	return removeImages(dir, keep)
}

// removeState forgets the handover; the journal stays, since the PCR does.
func removeState(dir string) error {
	return errors.Join(removeStateFile(dir), removeImages(dir, ""))
}

func removeStateFile(dir string) error {
	err := os.Remove(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func removeImages(dir, keep string) error {
	paths, err := filepath.Glob(filepath.Join(dir, imagePrefix+"*"))
	errs := []error{err}
	for _, path := range paths {
		if filepath.Base(path) != keep {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// saveImage writes the image's bytes and describes them.
func saveImage(dir string, img *kexecseg.Image) (*savedImage, error) {
	saved := &savedImage{Entry: img.Entry, Flags: img.Flags, IMA: img.IMA}
	var bytes [][]byte
	sum := sha256.New()
	for _, seg := range img.Segments {
		saved.Segments = append(saved.Segments, savedSegment{Phys: seg.Phys, Size: uint64(len(seg.Buf))})
		bytes = append(bytes, seg.Buf)
		sum.Write(seg.Buf)
	}
	saved.Digest = hex.EncodeToString(sum.Sum(nil))
	return saved, replaceFile(dir, saved.file(), bytes...)
}

// load reads the image back. Its sizes are checked against the file before any
// is used.
func (s *savedImage) load(dir string) (*kexecseg.Image, error) {
	path := filepath.Join(dir, s.file())
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != s.Digest {
		return nil, fmt.Errorf("%s is damaged, load again", path)
	}
	img := &kexecseg.Image{Entry: s.Entry, Flags: s.Flags, IMA: s.IMA}
	for i, seg := range s.Segments {
		if seg.Size > uint64(len(b)) {
			return nil, fmt.Errorf("%s ends inside segment %d, load again", path, i)
		}
		img.Segments = append(img.Segments, kexecseg.Segment{Buf: b[:seg.Size:seg.Size], Phys: seg.Phys})
		b = b[seg.Size:]
	}
	return img, nil
}

// replaceFile writes a new file of mode 0600 and puts it in the place of the old
// one.
func replaceFile(dir, name string, content ...[]byte) (err error) {
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	for _, b := range content {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
