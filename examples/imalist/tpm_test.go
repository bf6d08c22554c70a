package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

// sysfsFolder makes a folder like /sys/class/tpm/tpm0 with PCR 10.
func sysfsFolder(t testing.TB, values map[uint16]string) string {
	t.Helper()
	dir := t.TempDir()
	for alg, v := range values {
		bank := filepath.Join(dir, "pcr-"+imalog.AlgName(alg))
		if err := os.Mkdir(bank, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bank, "10"), []byte(strings.ToUpper(v)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// machine returns the files of a machine whose kernel has the capture mainline.
func machine(t testing.TB, values map[uint16]string) fstest.MapFS {
	t.Helper()
	m := fstest.MapFS{
		ima + "/binary_runtime_measurements":        {Data: readFile(t, mainline+"binary_runtime_measurements")},
		ima + "/binary_runtime_measurements_sha256": {Data: readFile(t, mainline+"binary_runtime_measurements_sha256")},
		ima + "/runtime_measurements_count":         {Data: []byte("23\n")},
		sysfsTPM + "/tpm_version_major":             {Data: []byte("2\n")},
	}
	for alg, v := range values {
		m[path.Join(sysfsTPM, "pcr-"+imalog.AlgName(alg), "10")] = &fstest.MapFile{Data: []byte(strings.ToUpper(v) + "\n")}
	}
	return m
}

func TestLive(t *testing.T) {
	for args, want := range map[string]string{
		"-o ascii":                "ascii_runtime_measurements",
		"-o binary":               "binary_runtime_measurements",
		"-o ascii -digest sha256": "ascii_runtime_measurements_sha256",
	} {
		w, out, errs := newWorld(nil)
		w.root = machine(t, nil)
		if status := w.run(context.Background(), strings.Fields(args)); status != exitGood || out.String() != string(readFile(t, mainline+want)) {
			t.Errorf("%s: status %d\n%s%s", args, status, errs, out)
		}
	}
	w, _, errs := newWorld(nil)
	w.root = machine(t, nil)
	if status := w.run(context.Background(), []string{"-digest", "sha384"}); status != exitError || !strings.Contains(errs.String(), "the running kernel's list: there is no binary_runtime_measurements_sha384: leave -digest out") {
		t.Errorf("status %d, %s", status, errs)
	}
}

// A big-endian machine shows its list in its own byte order.
func TestLiveBigEndian(t *testing.T) {
	w, out, errs := newWorld(nil)
	files := machine(t, nil)
	files[ima+"/binary_runtime_measurements"].Data = bigEndianList(t, readFile(t, mainline+"binary_runtime_measurements"))
	w.root = files
	if status := w.run(context.Background(), nil); status != exitGood || !strings.Contains(out.String(), "# 23 records, 2 boots, 2555 bytes; binary, big-endian, sha1 digests\n") {
		t.Errorf("status %d\n%s%s", status, errs, out)
	}
}

// forbidden is a machine whose list only root may read.
type forbidden struct{ fs.FS }

func (f forbidden) Open(name string) (fs.File, error) {
	if strings.Contains(name, "_measurements") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

func TestLiveForbidden(t *testing.T) {
	for _, args := range [][]string{nil, {"-follow"}, {"-verify", "tpm"}} {
		w, _, errs := newWorld(nil)
		w.root = forbidden{machine(t, mainlineValues)}
		if status := w.run(context.Background(), args); status != exitError || errs.String() != "imalist: only root may read the running kernel's list\n" {
			t.Errorf("%v: status %d, %s", args, status, errs)
		}
	}
}

func TestVerifyLive(t *testing.T) {
	w, out, errs := newWorld(nil)
	w.root = machine(t, mainlineValues)
	if status := w.run(context.Background(), []string{"-verify", "tpm"}); status != exitGood || !strings.HasSuffix(out.String(), "proved: 23 records, in 3 banks\n") {
		t.Errorf("status %d\n%s%s", status, errs, out)
	}
	// Somebody else's list is not this TPM's.
	w, out, _ = newWorld(nil)
	w.root = machine(t, mainlineValues)
	late := vectors + "late-records/6.12-cloud/arrived/binary_runtime_measurements"
	if status := w.run(context.Background(), []string{"-verify", "tpm", late}); status != exitBad {
		t.Errorf("status %d\n%s", status, out)
	}
}

// firmware returns PCRs 0 to 9 of the machine that mainline is of.
func firmware(t testing.TB) imalog.PCRs {
	t.Helper()
	pcrs, err := imalog.ParsePCRs(readFile(t, "testdata/evmctl.sha256"), imalog.AlgSHA256, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pcrs {
		if i >= 10 {
			delete(pcrs, i)
		}
	}
	return pcrs
}

// boot_aggregate counts: a list with another's is not this machine's.
func TestVerifyLiveAggregate(t *testing.T) {
	for name, status := range map[string]int{"own": exitGood, "another's": exitBad} {
		w, out, errs := newWorld(nil)
		files := machine(t, mainlineValues)
		for index, values := range firmware(t) {
			v := values[imalog.AlgSHA256]
			if index == 4 && status == exitBad {
				v[0]++
			}
			files[fmt.Sprintf("%s/pcr-sha256/%d", sysfsTPM, index)] = &fstest.MapFile{Data: []byte(hex.EncodeToString(v) + "\n")}
			files[fmt.Sprintf("%s/pcr-sha1/%d", sysfsTPM, index)] = &fstest.MapFile{Data: []byte(strings.Repeat("0", 40) + "\n")}
			files[fmt.Sprintf("%s/pcr-sha384/%d", sysfsTPM, index)] = &fstest.MapFile{Data: []byte(strings.Repeat("0", 96) + "\n")}
		}
		w.root = files
		if got := w.run(context.Background(), []string{"-verify", "tpm"}); got != status ||
			strings.Contains(out.String(), "boot_aggregate is that of PCRs 0 to 9 in 2 boots") != (status == exitGood) {
			t.Errorf("%s: status %d\n%s%s", name, got, errs, out)
		}
	}
}

// A PCR that stands still while the list grows proves nothing of what came later.
func TestVerifyLiveBehind(t *testing.T) {
	list := readFile(t, mainline+"binary_runtime_measurements")
	r := imalog.NewReplayer(&imalog.ReplayOptions{Banks: []uint16{imalog.AlgSHA1}})
	for rec := range imalog.Records(list, nil) {
		if err := r.Add(&rec); err != nil {
			t.Fatal(err)
		}
		break
	}
	w, out, errs := newWorld(nil)
	w.root = machine(t, map[uint16]string{imalog.AlgSHA1: hex.EncodeToString(r.Values()[imalog.AlgSHA1])})
	if status := w.run(context.Background(), []string{"-verify", "tpm"}); status != exitBad ||
		!strings.HasSuffix(out.String(), "NOT PROVED: the first 1 of 23 records only, and 22 were there before the values were read\n") {
		t.Errorf("status %d\n%s%s", status, errs, out)
	}
}

// growing is a machine on which a record is measured whenever the PCR was read
// and the list is read next, until n were.
type growing struct {
	files fstest.MapFS
	list  []byte
	sizes []int // of the list after each record
	at    int   // records in the list
	until int
}

func (g *growing) Open(name string) (fs.File, error) {
	switch {
	case strings.HasPrefix(name, sysfsTPM+"/pcr-"):
		r := imalog.NewReplayer(&imalog.ReplayOptions{Banks: []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384}})
		for rec := range imalog.Records(g.list[:g.sizes[g.at]], nil) {
			if err := r.Add(&rec); err != nil {
				return nil, err
			}
		}
		for alg, v := range r.Values() {
			g.files[path.Join(sysfsTPM, "pcr-"+imalog.AlgName(alg), "10")] = &fstest.MapFile{Data: []byte(hex.EncodeToString(v) + "\n")}
		}
	case name == ima+"/binary_runtime_measurements":
		if g.at < g.until {
			g.at++
		}
		g.files[name] = &fstest.MapFile{Data: g.list[:g.sizes[g.at]]}
	}
	return g.files.Open(name)
}

func newGrowing(t *testing.T, at, until int) *growing {
	g := &growing{files: machine(t, mainlineValues), list: readFile(t, mainline+"binary_runtime_measurements"), sizes: []int{0}, at: at, until: until}
	for rec, err := range imalog.Records(g.list, nil) {
		if err != nil {
			t.Fatal(err)
		}
		g.sizes = append(g.sizes, g.sizes[len(g.sizes)-1]+rec.BinarySize())
	}
	return g
}

func TestVerifyLiveWhileItGrows(t *testing.T) {
	// It stops growing in time: the whole list is proved.
	w, out, errs := newWorld(nil)
	w.root = newGrowing(t, 15, 20)
	if status := w.run(context.Background(), []string{"-verify", "tpm"}); status != exitGood || !strings.HasSuffix(out.String(), "proved: 20 records, in 3 banks\n") {
		t.Errorf("status %d\n%s%s", status, errs, out)
	}
	// It grows all the time: all but what came last.
	w, out, errs = newWorld(nil)
	w.root = newGrowing(t, 5, 23)
	status := w.run(context.Background(), []string{"-verify", "tpm"})
	if status != exitGood || !strings.Contains(out.String(), "\nproved: the first ") || !strings.Contains(out.String(), "the others are later than the values") {
		t.Errorf("status %d\n%s%s", status, errs, out)
	}
}

// closer makes a TPM one that can be closed.
type closer struct {
	transport.TPM
	closed *int
}

func (c closer) Close() error { *c.closed++; return nil }

func TestVerifyThroughDevice(t *testing.T) {
	tpm := softtpm.New(&softtpm.Options{Banks: []softtpm.Bank{softtpm.SHA1(), softtpm.SHA256(), softtpm.SHA384()}})
	for alg, v := range mainlineValues {
		value, _ := hex.DecodeString(v)
		if err := tpm.Set(tpm2.TPMAlgID(alg), 10, value); err != nil {
			t.Fatal(err)
		}
	}
	for index, values := range firmware(t) {
		for alg, v := range values {
			if err := tpm.Set(tpm2.TPMAlgID(alg), index, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	opened, closed := "", 0
	w, out, errs := newWorld(nil)
	w.root = machine(t, nil) // its kernel shows no PCRs in sysfs
	w.openTPM = func(path string) (transport.TPMCloser, error) {
		opened = path
		return closer{tpm, &closed}, nil
	}
	if status := w.run(context.Background(), []string{"-verify", "tpm"}); status != exitGood || !strings.HasSuffix(out.String(), "proved: 23 records, in 3 banks\n") {
		t.Errorf("status %d\n%s%s", status, errs, out)
	}
	if opened != tpmDevice || closed != 1 {
		t.Errorf("opened %q, closed %d times", opened, closed)
	}

	w, _, errs = newWorld(nil)
	w.root = machine(t, nil)
	w.openTPM = func(string) (transport.TPMCloser, error) { return nil, errors.New("permission denied") }
	if status := w.run(context.Background(), []string{"-verify", "tpm"}); status != exitError || errs.String() != "imalist: /dev/tpmrm0: permission denied\n" {
		t.Errorf("status %d, %s", status, errs)
	}
}
