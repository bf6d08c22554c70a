package events

import (
	"encoding/hex"
	"iter"
	"os"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// captures are the lists of real kernels that imalog is tested with.
const captures = "../imalog/testdata/"

// readList reads the list of a captured machine.
func readList(t testing.TB, dir string) []imalog.Record {
	t.Helper()
	b, err := os.ReadFile(dir + "/binary_runtime_measurements")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, b)
}

// readPCR reads PCR 10 of a captured machine, in the given banks or in all.
func readPCR(t testing.TB, dir string, algs ...uint16) imalog.Values {
	t.Helper()
	b, err := os.ReadFile(dir + "/pcrs.txt")
	if err != nil {
		t.Fatal(err)
	}
	v := imalog.Values{}
	for line := range strings.Lines(string(b)) {
		where, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, ok := strings.CutSuffix(where, ":10")
		if !ok {
			continue
		}
		alg, known := imalog.AlgByName(name)
		raw, err := hex.DecodeString(value)
		if err != nil || !known {
			t.Fatalf("%s: %q: %v", dir, line, err)
		}
		for _, a := range algs {
			if a == alg {
				v[alg] = raw
			}
		}
		if len(algs) == 0 {
			v[alg] = raw
		}
	}
	if len(v) == 0 {
		t.Fatalf("%s: no PCR 10", dir)
	}
	return v
}

// parse reads a list in binary form.
func parse(t testing.TB, b []byte) []imalog.Record {
	t.Helper()
	var list []imalog.Record
	for rec, err := range imalog.Records(b, nil) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rec)
	}
	return list
}

// sequence ranges over records in memory.
func sequence(list []imalog.Record) iter.Seq2[imalog.Record, error] {
	return func(yield func(imalog.Record, error) bool) {
		for _, rec := range list {
			if !yield(rec, nil) {
				return
			}
		}
	}
}
