//go:build linux

package vmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imakexec/imakexec/internal/testenv"
)

// keepEnv is a folder that gets the console and the files of every machine.
const keepEnv = "IMAKEXEC_VM_KEEP"

// Run plays a scenario in a machine of its own, beside the other parallel tests, and
// fails the test if the guest reported an error or the machine did not come to its
// proper end. Kernels may be given by the names of KernelNames. A plain "go test"
// skips it.
func Run(t *testing.T, c Config) *Result {
	t.Helper()
	res, err := run(t, c)
	if err != nil || res.Failed {
		t.Logf("end of the console:\n%s", lastLines(res.Console, 60))
		for _, boot := range res.Boots {
			if b := res.Files[fmt.Sprintf("failed%d/dmesg.txt", boot)]; b != nil {
				t.Logf("what the kernel of boot %d said of IMA and the TPM:\n%s", boot, about(b, "ima:", "tpm"))
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if res.Failed {
		t.FailNow()
	}
	return res
}

// run is Run without a verdict.
func run(t *testing.T, c Config) (*Result, error) {
	t.Helper()
	testenv.NeedFull(t, "boots virtual machines")
	t.Parallel()
	kernels := make([]string, len(c.Kernels))
	for i, name := range c.Kernels {
		kernels[i] = name
		if !filepath.IsAbs(name) {
			var err error
			if kernels[i], err = Kernel(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Kernels = kernels
	if c.Init == "" {
		c.Init = build(t)
	}
	res, err := RunMachine(t.Context(), &c)
	keep(t, res)
	for _, line := range res.Log {
		t.Log(line)
	}
	t.Logf("%v in the machine", res.Elapsed.Round(100*time.Millisecond))
	return res, err
}

// about returns the lines that hold one of the words.
func about(text []byte, words ...string) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		for _, word := range words {
			if strings.Contains(line, word) {
				b.WriteString(line)
				break
			}
		}
	}
	return b.String()
}

func lastLines(s string, n int) string {
	lines := strings.SplitAfter(strings.ReplaceAll(s, "\r", ""), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// keep saves what a machine left, for a person to look at.
func keep(t *testing.T, res *Result) {
	dir := os.Getenv(keepEnv)
	if dir == "" {
		return
	}
	dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_"))
	files := map[string][]byte{"console": []byte(res.Console)}
	for name, b := range res.Files {
		files[name] = b
	}
	for name, b := range files {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// initEnv names the folder of the binary that guests boot; Main makes and removes it.
const initEnv = "VMTEST_INIT"

// build makes a static binary of the package under test, once for all its tests.
func build(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(initEnv)
	if dir == "" {
		t.Fatal("vmtest: TestMain of this package must call vmtest.Main")
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	path := filepath.Join(dir, "init")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags", "-s -w", "-o", path+".new", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("vmtest: build the guest's init: %v\n%s", err, out)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}
