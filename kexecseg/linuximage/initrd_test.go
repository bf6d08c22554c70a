package linuximage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/imakexec/imakexec/internal/testenv"
)

func TestJoinInitrds(t *testing.T) {
	j, err := JoinInitrds(strings.NewReader("abcde"), nil, strings.NewReader(""), strings.NewReader("fghi"), strings.NewReader("jk"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "abcde\x00\x00\x00fghijk"
	if n := j.(interface{ Size() int64 }).Size(); n != int64(len(want)) {
		t.Errorf("size %d", n)
	}
	for off := range len(want) + 1 {
		for n := range len(want) + 2 {
			buf := bytes.Repeat([]byte{'#'}, n)
			got, err := j.ReadAt(buf, int64(off))
			part := want[off:min(off+n, len(want))]
			if string(buf[:got]) != part || (err == io.EOF) != (got < n) {
				t.Fatalf("%d bytes at %d: %q, %v, want %q", n, off, buf[:got], err, part)
			}
		}
	}
	if err := iotest.TestReader(io.NewSectionReader(j, 0, int64(len(want))), []byte(want)); err != nil {
		t.Error(err)
	}
	if _, err := j.ReadAt(nil, -1); err == nil {
		t.Error("a negative offset")
	}
}

// Request.Initrd is appended, where the next kernel unpacks it.
func TestAppendedInitrd(t *testing.T) {
	l, root := testLinux(), testRoot(t, biosMachine)
	l.Initrd = strings.NewReader("first")
	img, err := tryPlan(l, root, 1, []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, img, root).initrd); got != "first\x00\x00\x00second" {
		t.Errorf("%q", got)
	}
	l.Initrd = nil
	if img, err = tryPlan(l, root, 1, []byte("second")); err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, img, root).initrd); got != "second" {
		t.Errorf("alone: %q", got)
	}
	if img, err = tryPlan(l, root, 1, nil); err != nil {
		t.Fatal(err)
	}
	if p := read(t, img, root); p.initrd != nil || len(img.Segments) != 3 {
		t.Errorf("none: %q", p.initrd)
	}
}

func TestEmptyArchive(t *testing.T) {
	s, err := newSource(emptyArchive())
	if err != nil || s.size != 124 {
		t.Fatal(s.size, err)
	}
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		testenv.Skip(t, "needs cpio to judge it")
	}
	cmd := exec.Command(cpio, "--list", "--quiet")
	cmd.Stdin = io.NewSectionReader(s, 0, int64(s.size))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("cpio: %v, %q", err, out)
	}
}

func TestNewSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, r := range map[string]io.ReaderAt{
		"nil":                  nil,
		"a file":               f,
		"a section":            io.NewSectionReader(f, 2, 5),
		"one without a size":   &counted{ReaderAt: f},
		"an empty one":         &counted{ReaderAt: strings.NewReader("")},
		"one byte":             &counted{ReaderAt: strings.NewReader("x")},
		"a power of two":       &counted{ReaderAt: strings.NewReader(strings.Repeat("x", 4096))},
		"a power of two and 1": &counted{ReaderAt: strings.NewReader(strings.Repeat("x", 4097))},
	} {
		want := map[string]uint64{"nil": 0, "a file": 10, "a section": 5, "one without a size": 10, "an empty one": 0,
			"one byte": 1, "a power of two": 4096, "a power of two and 1": 4097}[name]
		if s, err := newSource(r); err != nil || s.size != want {
			t.Errorf("%s: %d, %v, want %d", name, s.size, err, want)
		}
	}
	told := errors.New("told")
	if _, err := newSource(failing{told}); !errors.Is(err, told) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := JoinInitrds(failing{told}); !errors.Is(err, told) {
		t.Errorf("joined: %v", err)
	}
	// A source that became shorter since.
	s := source{strings.NewReader("abc"), 10}
	if err := s.read(make([]byte, 10), 0); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "offset 3") {
		t.Errorf("cut: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }
