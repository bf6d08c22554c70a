package handover

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goTool runs the go command for a Linux bootloader: static, no cgo.
func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A bootloader pays for what it links: the weight is that of a program that hands
// over against one that reads a PCR with go-tpm, both stripped.
func TestWeight(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	dir := t.TempDir()
	size := func(program string) int64 {
		out := filepath.Join(dir, program)
		goTool(t, "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/weight/"+program)
		fi, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	read, hand := size("pcrread"), size("handover")
	t.Logf("reading a PCR: %d KiB; handing over: %d KiB; added: %d KiB", read>>10, hand>>10, (hand-read)>>10)
	if limit := int64(2 << 20); hand-read > limit {
		t.Errorf("handover adds %d bytes to a bootloader, more than %d", hand-read, limit)
	}
}

// What handover adds to a program with go-tpm is this module and plain parts of
// the standard library: no network, no cgo, no simulator.
func TestDependencies(t *testing.T) {
	has := map[string]bool{}
	for dep := range strings.Lines(goTool(t, "list", "-deps", "./testdata/weight/pcrread")) {
		has[dep] = true
	}
	ours := 0
	for dep := range strings.Lines(goTool(t, "list", "-deps", "./testdata/weight/handover")) {
		if has[dep] {
			continue
		}
		dep = strings.TrimSpace(dep)
		host, _, _ := strings.Cut(dep, "/")
		switch {
		case strings.HasPrefix(dep, "github.com/imakexec/imakexec/"):
			ours++
		case strings.Contains(host, "."), host == "net", host == "testing", dep == "runtime/cgo", dep == "os/exec":
			t.Errorf("a bootloader would link %s", dep)
		}
	}
	if ours < 5 {
		t.Errorf("%d packages of this module among the dependencies, want handover and those below it", ours)
	}
}
