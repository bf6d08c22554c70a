//go:build linux

package vmtest

import (
	"bytes"
	"fmt"
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
	for _, bank := range banksOf(banks) {
		if ok, said := evmctl(t, c, bank); !ok {
			t.Errorf("evmctl finds that the list does not yield the PCR in bank %s:\n%s", bank, said)
		}
	}
}

// JudgeLost is Judge for a list that has to fail: in each bank both judges must find
// so.
func JudgeLost(t *testing.T, c Capture, banks ...string) {
	t.Helper()
	for _, bank := range banksOf(banks) {
		if ok, said := evmctl(t, c, bank); ok {
			t.Errorf("evmctl finds that the list yields the PCR in bank %s:\n%s", bank, said)
		}
	}
}

func banksOf(named []string) []string {
	if len(named) == 0 {
		return []string{"sha1", "sha256"}
	}
	return named
}

// evmctl is the outside judge, of package ima-evm-utils. It accepts a list of which
// only the beginning yields the PCR, so the number of records is compared too.
func evmctl(t *testing.T, c Capture, bank string) (ok bool, said string) {
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
	cmd := exec.CommandContext(t.Context(), program, "ima_measurement", "--ignore-violations", "-v",
		"--pcrs", bank+","+write("pcrs."+bank), write("binary_runtime_measurements"))
	out, err := cmd.CombinedOutput()
	said = string(out)
	switch {
	case err == nil && strings.Contains(said, "Matched per TPM bank calculated digest(s)."):
		all := fmt.Sprintf("%s PCR-10: succeed at entry %s\n", bank, bytes.TrimSpace(c["runtime_measurements_count"]))
		return strings.Contains(said, all), lastLines(said, 8)
	case err != nil && strings.Contains(said, "Failed to match per TPM bank"):
		return false, lastLines(said, 8)
	}
	t.Fatalf("evmctl gave no verdict (%v):\n%s", err, lastLines(said, 8))
	return false, ""
}
