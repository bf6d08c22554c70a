package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// vectors are the captures of real kernels that imalog is tested with.
const vectors = "../../imalog/testdata/"

// mainline is a capture that the files of values in testdata belong to.
const mainline = vectors + "imakexec/mainline-kexec_file_load/arrived/"

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mainlineValues are PCR 10 of the capture mainline.
var mainlineValues = map[uint16]string{
	imalog.AlgSHA1:   "7281b039b591ad7209d181d1b846013f0210bfa6",
	imalog.AlgSHA256: "1c740010b5fd9cd2a6a3a627b10b9bf07e69b8da6a2a2c108d62266bd7b532f6",
	imalog.AlgSHA384: "faf198348146d6ba757b5eb2a02898c19abcb2d573579584bbd0d3340618caabe7408158696e2cf2e9254d4b0ccb4b80",
}

// captured returns the files of a name in the captures.
func captured(t testing.TB, match func(name string) bool) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(filepath.FromSlash(vectors), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && match(d.Name()) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
