//go:build linux

package vmtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/testenv"
)

// Capture is what Guest.Capture sent under one name, by file name.
type Capture map[string][]byte

// Capture returns what the guest captured under a name.
func (res *Result) Capture(name string) Capture {
	c := make(Capture)
	for path, b := range res.Files {
		if file, ok := strings.CutPrefix(path, name+"/"); ok {
			c[file] = b
		}
	}
	return c
}

// List is the binary measurement list with SHA-1 digests.
func (c Capture) List() []byte { return c["binary_runtime_measurements"] }

// Values returns the value of PCR 10 in some banks, or in all of them if none is
// named.
func (c Capture) Values(banks ...string) (imalog.Values, error) {
	v := make(imalog.Values)
	for line := range strings.Lines(string(c["pcrs.txt"])) {
		where, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		bank, pcr, _ := strings.Cut(where, ":")
		if pcr != "10" || len(banks) > 0 && !slices.Contains(banks, bank) {
			continue
		}
		alg, ok := imalog.AlgByName(bank)
		if !ok {
			return nil, fmt.Errorf("vmtest: PCR bank %q", bank)
		}
		b, err := hex.DecodeString(value)
		if err != nil {
			return nil, fmt.Errorf("vmtest: PCR 10 in bank %s: %w", bank, err)
		}
		v[alg] = b
	}
	if len(v) == 0 || len(banks) > len(v) {
		return nil, fmt.Errorf("vmtest: PCR 10 was captured in %d banks, want %q", len(v), banks)
	}
	return v, nil
}

// Judge asks whether a captured list yields the captured PCR 10 in each of the banks
// (sha1 and sha256 if none is named), and fails the test where it does not. The
// judges are this module's replay and, for the banks that it knows, evmctl.
func Judge(t *testing.T, c Capture, banks ...string) { t.Helper(); judge(t, c, banks, true) }

// JudgeLost is Judge for a list that has to fail: in each bank both judges must find
// so.
func JudgeLost(t *testing.T, c Capture, banks ...string) { t.Helper(); judge(t, c, banks, false) }

func judge(t *testing.T, c Capture, banks []string, want bool) {
	t.Helper()
	if len(banks) == 0 {
		banks = []string{"sha1", "sha256"}
	}
	values, err := c.Values(banks...)
	if err != nil {
		t.Fatal(err)
	}
	res, err := imalog.Verify(t.Context(), imalog.Records(c.List(), nil), values, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Banks) != len(banks) {
		t.Fatalf("replayed %d banks, want %q", len(res.Banks), banks)
	}
	for _, b := range res.Banks {
		if b.Match != want {
			t.Errorf("bank %s: the list of %d records matches PCR 10: %v, want %v; up to record %d it does\nPCR  %x\nlist %x",
				imalog.AlgName(b.Alg), res.Records, b.Match, want, b.Prefix, b.Want, b.Got)
		}
	}
	for _, bank := range banks {
		if bank != "sha1" && bank != "sha256" {
			continue // evmctl 1.4 has no others
		}
		if got, said := evmctl(t, c, bank); got != want {
			t.Errorf("evmctl, bank %s: the list matches: %v, want %v\n%s", bank, got, want, said)
		}
	}
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
