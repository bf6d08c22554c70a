package events

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

// TestMessages: an error says where, what, and what to do.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m, tpm := newMeasurer(t, &softtpm.Options{Banks: []softtpm.Bank{softtpm.SHA1(), {Alg: tpm2.TPMAlgID(imalog.AlgSM3_256), New: softtpm.SHA256().New}}})
	rec := record(t, KexecLoad, "x")
	one := newScene(t).kernels(files(t, 3, "f")...)
	tests := []struct {
		name string
		do   func() error
		want []string
	}{
		{"open directory", func() error {
			_, err := OpenJournal(dir, &JournalOptions{BootID: bootA})
			return err
		}, []string{"events: journal " + dir, "chmod 700 " + dir}},
		{"unknown bank", func() error {
			_, err := m.Measure(t.Context(), &rec, 0)
			return err
		}, []string{"events: measure: banks: ", "sm3", "Measurer.Hashes", "(not done)"}},
		{"transport", func() error {
			m.LeaveOut = []uint16{imalog.AlgSM3_256}
			tpm.Inject(softtpm.Fault{Command: tpm2.TPMCCPCRExtend, Err: errors.New("i/o error")})
			_, err := m.Measure(t.Context(), &rec, 0)
			return err
		}, []string{"events: measure: extend: i/o error (not done)"}},
		{"no place", func() error {
			_, err := one.splice(imalog.Values{imalog.AlgSHA1: make([]byte, 19)}, &SpliceOptions{MaxSteps: 2})
			return err
		}, []string{"events: splice: no place", "within 2 steps"}},
		{"no TPM", func() error { _, err := SysfsValues(os.DirFS(dir), 10); return err }, []string{"events: there is no TPM: no /sys/class/tpm/tpm0"}},
		{"boot id", func() error {
			_, err := OpenJournal(filepath.Join(dir, "x"), &JournalOptions{BootID: "a b"})
			return err
		}, []string{"set JournalOptions.BootID"}},
	}
	for _, tt := range tests {
		err := tt.do()
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", tt.name, err, want)
			}
		}
	}
}

// TestOtherPCR measures into a PCR that a policy chose with "pcr=".
func TestOtherPCR(t *testing.T) {
	m, tpm := newMeasurer(t, nil)
	m.PCR = 12
	rec, err := NewRecord("x", []byte("y"), &RecordOptions{PCR: 12})
	if err != nil {
		t.Fatal(err)
	}
	done, err := m.Measure(t.Context(), &rec, 0)
	if err != nil || done.Outcome != Done {
		t.Fatal(done.Outcome, err)
	}
	end := imalog.NewReplayer(&imalog.ReplayOptions{PCR: 12})
	if err := end.Add(&rec); err != nil || !done.After.Equal(end.Values()) {
		t.Errorf("PCR 12 is %x, want %x, %v", done.After, end.Values(), err)
	}
	if v := tpm.Value(tpm2.TPMAlgSHA1, 10); len(strings.Trim(string(v), "\x00")) != 0 {
		t.Errorf("PCR 10 is %x", v)
	}
}

// TestMeasureRefusedByTPM has the TPM itself refuse: user space may not extend
// PCR 17.
func TestMeasureRefusedByTPM(t *testing.T) {
	m, tpm := newMeasurer(t, nil)
	m.PCR = 17
	rec, err := NewRecord("x", []byte("y"), &RecordOptions{PCR: 17})
	if err != nil {
		t.Fatal(err)
	}
	done, err := m.Measure(t.Context(), &rec, 0)
	if !errors.Is(err, tpm2.TPMRCLocality) || done.Outcome != NotDone || done.Entry.State != Dropped || tpm.Extends() != 0 {
		t.Errorf("%v, %v, %v", done.Outcome, done.Entry.State, err)
	}
}

// TestAuditUnknownBank: a bank that cannot be replayed neither proves a list nor
// stands in the way of the others.
func TestAuditUnknownBank(t *testing.T) {
	list := readCapture(t, "imakexec/mainline-kexec_file_load/arrived")
	want := readPCR(t, mainline+"arrived", imalog.AlgSHA256)
	want[imalog.AlgSM3_256] = make([]byte, 32)
	if r := audit(t, list, &AuditOptions{Want: want}); r.Proof != Proved {
		t.Errorf("with SHA-256 and SM3: %v", r.Proof)
	}
	delete(want, imalog.AlgSHA256)
	if r := audit(t, list, &AuditOptions{Want: want}); r.Proof != NoProof {
		t.Errorf("with SM3 alone: %v", r.Proof)
	}
}
