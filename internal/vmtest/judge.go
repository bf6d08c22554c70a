//go:build linux

package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/internal/testenv"
)

// Capture is what Guest.Capture sent under one name, by file name.
type Capture map[string][]byte

// Capture returns what the guest captured under a name, and fails the test if it
// captured nothing.
func (res *Result) Capture(t testing.TB, name string) Capture {
	t.Helper()
	c := make(Capture)
	for path, b := range res.Files {
		if file, ok := strings.CutPrefix(path, name+"/"); ok {
			c[file] = b
		}
	}
	if len(c) == 0 {
		t.Fatalf("the guest captured nothing named %q", name)
	}
	return c
}

// List is the binary measurement list with SHA-1 digests.
func (c Capture) List() []byte { return c["binary_runtime_measurements"] }

// Judge asks whether a captured list yields the captured PCR 10 in each of the banks
// (sha1 and sha256 if none is named), and fails the test where it does not. The
// judges are this module's replay and evmctl.
func Judge(t *testing.T, c Capture, banks ...string) {
	t.Helper()
	if ok, said := evmctl(t, c, banks...); !ok {
		t.Errorf("evmctl says that the list does not match:\n%s", said)
	}
}

// JudgeLost is Judge for a list that has to fail: both judges must say so.
func JudgeLost(t *testing.T, c Capture, banks ...string) {
	t.Helper()
	if ok, said := evmctl(t, c, banks...); ok {
		t.Errorf("evmctl says that the list matches:\n%s", said)
	}
}

// evmctl is the outside judge, of package ima-evm-utils.
func evmctl(t *testing.T, c Capture, banks ...string) (bool, string) {
	t.Helper()
	program, err := exec.LookPath("evmctl")
	if err != nil {
		testenv.Skip(t, "needs evmctl")
	}
	dir := t.TempDir()
	write := func(name string) string {
		if len(c[name]) == 0 {
			t.Fatalf("%s was not captured", name)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, c[name], 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if len(banks) == 0 {
		banks = []string{"sha1", "sha256"}
	}
	args := []string{"ima_measurement", "--ignore-violations", "-v"}
	for _, bank := range banks {
		args = append(args, "--pcrs", bank+","+write("pcrs."+bank))
	}
	out, err := exec.CommandContext(t.Context(), program, append(args, write("binary_runtime_measurements"))...).CombinedOutput()
	return err == nil, string(out)
}
