package purgatory

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imakexec/imakexec/internal/testenv"
	"github.com/imakexec/imakexec/kexecseg"
)

// The checked-in code is what the source gives.
func TestReproduced(t *testing.T) {
	for _, tool := range []string{"as", "objcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			testenv.Skip(t, "needs GNU binutils for x86-64")
		}
	}
	out := filepath.Join(t.TempDir(), "purgatory.bin")
	if msg, err := exec.Command("./build.sh", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	built, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, []byte(binaryCode)) {
		t.Error("purgatory.bin is not what purgatory.S gives: run build.sh")
	}
}

func TestCode(t *testing.T) {
	p := &Params{Entry: 0x1000200, Argument: 0x3000000, Port: COM1,
		Regions: []kexecseg.SHARegion{{Start: 0x1000000, Len: 0x1000}, {Start: 0x4000000, Len: 0x2000}}}
	code, err := Code(0x2000000, p)
	if err != nil || uint64(len(code)) != Size() {
		t.Fatalf("%d bytes, %v", len(code), err)
	}
	if bytes.Equal(code, []byte(binaryCode)) {
		t.Error("the table is empty")
	}
	again, err := Code(0x2000000, &Params{Regions: p.Regions})
	if err != nil || bytes.Equal(again, code) {
		t.Errorf("parameters change nothing: %v", err)
	}
	for name, regions := range map[string][]kexecseg.SHARegion{
		"none":         nil,
		"17":           make([]kexecseg.SHARegion, 17),
		"an empty one": {{Start: 0x1000000, Len: 0}},
		"odd length":   {{Start: 0x1000000, Len: 0x1020}},
		"itself":       {{Start: 0x1fff000, Len: 0x1040}},
	} {
		if _, err := Code(0x2000000, &Params{Regions: regions}); !errors.Is(err, ErrRegions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Both routines hash as crypto/sha256 does, on this processor.
func TestSHA256(t *testing.T) {
	for _, routine := range routines(t) {
		t.Run(routine.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for _, blocks := range []int{0, 1, 2, 3, 64, 1000} {
				data := make([]byte, blocks*blockSize)
				for i := range data {
					data[i] = byte(r.Uint32())
				}
				if got, want := routine.run(t, data, 1), sha256.Sum256(data); got != want {
					t.Errorf("%d blocks: %x, want %x", blocks, got, want)
				}
			}
		})
	}
}
