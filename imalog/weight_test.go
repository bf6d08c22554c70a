package imalog_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/listgen"
)

// build builds a program of testdata/weight as a boot loader would.
func build(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/weight/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// A program that reads a list and replays it in four banks, against one that
// opens a file and hashes it with the same hashes.
func TestBinaryWeight(t *testing.T) {
	const limit = 150 << 10
	size := map[string]int64{}
	for _, name := range []string{"hash", "replay", "verify"} {
		info, err := os.Stat(build(t, name))
		if err != nil {
			t.Fatal(err)
		}
		size[name] = info.Size()
	}
	t.Logf("to hash a file: %d KiB; to replay a list: %+d KiB; to verify it and explain: %+d KiB",
		size["hash"]>>10, (size["replay"]-size["hash"])>>10, (size["verify"]-size["hash"])>>10)
	if size["replay"]-size["hash"] > limit {
		t.Errorf("a program that replays a list is %d bytes larger than one that hashes a file", size["replay"]-size["hash"])
	}
}

// The memory that it takes to verify a list does not depend on its length.
func TestStreamingMemory(t *testing.T) {
	const limit = 8 << 20
	if runtime.GOOS != "linux" {
		t.Skip("the peak is read from /proc")
	}
	verify := build(t, "verify")
	for _, n := range []int{1000, 200_000} {
		var list bytes.Buffer
		if err := listgen.Write(&list, n, listgen.Seed); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(file, list.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{file}
		r := imalog.NewReplayer(&imalog.ReplayOptions{Banks: []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}})
		if err := r.AddAll(t.Context(), imalog.Records(list.Bytes(), nil)); err != nil {
			t.Fatal(err)
		}
		for _, alg := range r.Banks() {
			args = append(args, hex.EncodeToString(r.Value(alg)))
		}
		out, err := exec.Command(verify, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		peak := peakOf(t, string(out))
		t.Logf("%d records, %d KiB: peak %d KiB", n, list.Len()>>10, peak>>10)
		if peak > limit {
			t.Errorf("%d records: %d bytes at the peak", n, peak)
		}
	}
}

// peakOf finds the resident set's high-water mark in /proc/self/status.
func peakOf(t *testing.T, status string) int64 {
	_, rest, _ := strings.Cut(status, "VmHWM:")
	var kib int64
	for _, c := range strings.TrimSpace(rest) {
		if c < '0' || c > '9' {
			break
		}
		kib = 10*kib + int64(c-'0')
	}
	if kib == 0 {
		t.Fatalf("no peak in %q", status)
	}
	return kib << 10
}
