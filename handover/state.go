package handover

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/kexecseg"
)

// What Resume needs is one JSON file in the state directory, beside the journal,
// and the image's bytes in another when it is persisted. Both are replaced as a
// whole, so a reader sees the old or the new one.
const (
	stateFile = "handover.json"
	imageFile = "image"
)

type state struct {
	BootID       string         `json:"boot_id"`
	ID           string         `json:"id"` // of the Load: an older Handover sees that it was replaced
	Figures      events.Figures `json:"kexec_load"`
	LoadMeasured bool           `json:"kexec_load_measured"`
	Proved       bool           `json:"proved"` // the list replayed at Load
	Since        int            `json:"since"`
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

// makeStateDir makes the directory, or makes sure that it is one that nobody
// else can write to.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() || fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %v: it must be a directory that nobody else can use (0700)", dir, fi.Mode())
	}
	return nil
}

// readState returns the state of this boot; ErrNothingLoaded when there is none.
func readState(dir, boot string) (*state, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNothingLoaded
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s is damaged, load again: %w", filepath.Join(dir, stateFile), err)
	}
	if s.BootID != boot {
		return nil, fmt.Errorf("%w: %s is of an earlier one", ErrNothingLoaded, dir)
	}
	return &s, nil
}

func (s *state) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(dir, stateFile, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

// removeState forgets the handover; the journal stays, since the PCR does.
func removeState(dir string) error {
	var errs []error
	for _, name := range []string{stateFile, imageFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// saveImage writes the image's bytes and describes them.
func saveImage(dir string, img *kexecseg.Image) (*savedImage, error) {
	saved := &savedImage{Entry: img.Entry, Flags: img.Flags, IMA: img.IMA}
	sum := sha256.New()
	err := replaceFile(dir, imageFile, func(w io.Writer) error {
		w = io.MultiWriter(w, sum)
		for _, seg := range img.Segments {
			saved.Segments = append(saved.Segments, savedSegment{Phys: seg.Phys, Size: uint64(len(seg.Buf))})
			if _, err := w.Write(seg.Buf); err != nil {
				return err
			}
		}
		return nil
	})
	saved.Digest = hex.EncodeToString(sum.Sum(nil))
	return saved, err
}

// load reads the image back. Its sizes are checked against the file before any
// is used.
func (s *savedImage) load(dir string) (*kexecseg.Image, error) {
	b, err := os.ReadFile(filepath.Join(dir, imageFile))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != s.Digest {
		return nil, fmt.Errorf("%s is damaged, load again", filepath.Join(dir, imageFile))
	}
	img := &kexecseg.Image{Entry: s.Entry, Flags: s.Flags, IMA: s.IMA}
	for i, seg := range s.Segments {
		if seg.Size > uint64(len(b)) {
			return nil, fmt.Errorf("%s ends inside segment %d, load again", filepath.Join(dir, imageFile), i)
		}
		img.Segments = append(img.Segments, kexecseg.Segment{Buf: b[:seg.Size:seg.Size], Phys: seg.Phys})
		b = b[seg.Size:]
	}
	return img, nil
}

// replaceFile writes a new file and puts it in the place of the old one.
func replaceFile(dir, name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(dir, name+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
