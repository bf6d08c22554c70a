//go:build !386 && !mips && !mipsle && !mips64 && !mips64le

package kexecseg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is given to the kernel is the caller's file, or one with the same bytes.
func TestFileOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, []byte("a kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := fileOf("kernel", f)
	if err != nil || h.fd != int(f.Fd()) || h.close != nil {
		t.Errorf("%+v, %v", h, err)
	}
	h.release()
	if _, err := f.Stat(); err != nil {
		t.Errorf("the caller's file is closed: %v", err)
	}

	content := strings.Repeat("an initrd ", 100000)
	h, err = fileOf("initrd", strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/proc/self/fd/%d", h.fd)
	if got, err := os.ReadFile(name); err != nil || string(got) != content {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	h.release()
	if _, err := os.Stat(name); err == nil {
		t.Error("the copy is still open after its release")
	}

	if _, err := fileOf("kernel", nil); !errors.Is(err, ErrImage) {
		t.Errorf("no kernel: %v", err)
	}
	told := errors.New("told")
	if _, err := fileOf("initrd", failing{told}); !errors.Is(err, told) {
		t.Errorf("a reader that fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// The kernel's answer comes back as a RefusedError. Without privilege it never reads
// the files; with it, this is no kernel.
func TestLoadFilesRefused(t *testing.T) {
	var e *RefusedError
	err := LoadFiles(&Files{Kernel: strings.NewReader(strings.Repeat("no kernel", 1000))})
	if !errors.As(err, &e) || e.Op != "kexec_file_load" || e.Errno == nil {
		t.Errorf("%v", err)
	}
	err = LoadFiles(&Files{Kernel: strings.NewReader("no kernel"), Cmdline: "quiet\x00init=/x"})
	if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "NUL") {
		t.Errorf("a NUL in the command line: %v", err)
	}
}
