package purgatory

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/internal/testenv"
)

// routine is one of the two compression functions in the code, to be run in a
// process of its own.
type routine struct {
	name string
	off  int // of its offset in the header
}

// routines returns those that this machine can run: the plain one on any x86-64
// with Linux, the other where the CPU has the SHA extensions.
func routines(t testing.TB) []routine {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		testenv.Skip(t, "runs x86-64 code under Linux")
	}
	all := []routine{{"plain", offPlain}}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil && strings.Contains(string(info), " sha_ni") {
		all = append(all, routine{"SHA extensions", offNI})
	} else {
		t.Log("this CPU lacks the SHA extensions: only the plain routine is tested")
	}
	return all
}

// run hashes data as often as told and returns the last digest. The program is an
// ELF file with the code, which calls the routine and writes the state to its
// standard output.
func (r routine) run(t testing.TB, data []byte, times int) (digest [32]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "routine")
	if err := os.WriteFile(path, r.program(data, times), 0o700); err != nil {
		t.Fatal(err)
	}
	state, err := exec.Command(path).Output()
	if err != nil || len(state) != len(digest) {
		t.Fatalf("%s: %v, wrote %x", r.name, err, state)
	}
	for i := 0; i < len(state); i += 4 {
		binary.BigEndian.PutUint32(digest[i:], binary.LittleEndian.Uint32(state[i:]))
	}
	return digest
}

// program makes a static ELF64 executable of one segment: headers, the code at an
// address of its alignment, the caller, the state, the padded data.
func (r routine) program(data []byte, times int) []byte {
	const codeAt = 0x1000
	le := binary.LittleEndian
	code := []byte(binaryCode)
	callerAt := codeAt + len(code)
	const callerSize = 128
	stateAt := callerAt + callerSize
	dataAt := stateAt + 2*32

	padded := append(append([]byte(nil), data...), make([]byte, blockSize)...)
	padded[len(data)] = 0x80
	binary.BigEndian.PutUint64(padded[len(padded)-8:], uint64(len(data))*8)

	var c []byte
	lea := func(op []byte, target int) { // op is REX.W, 8d, ModRM with a displacement from RIP
		c = append(c, op...)
		c = le.AppendUint32(c, uint32(target-(callerAt+len(c)+4)))
	}
	c = append(c, 0x41, 0xbc) // mov r12d, times
	c = le.AppendUint32(c, uint32(times))
	loop := len(c)
	lea([]byte{0x48, 0x8d, 0x35}, stateAt)       // lea rsi, initial state
	lea([]byte{0x48, 0x8d, 0x3d}, stateAt+32)    // lea rdi, state
	c = append(c, 0xb9, 32, 0, 0, 0, 0xf3, 0xa4) // mov ecx, 32; rep movsb
	lea([]byte{0x48, 0x8d, 0x3d}, stateAt+32)
	lea([]byte{0x48, 0x8d, 0x35}, dataAt)
	c = append(c, 0xba) // mov edx, blocks
	c = le.AppendUint32(c, uint32(len(padded)/blockSize))
	lea([]byte{0xe8}, codeAt+word(r.off))                      // call the routine
	c = append(c, 0x41, 0xff, 0xcc, 0x75, byte(loop-len(c)-5)) // dec r12d; jnz loop
	c = append(c, 0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0)          // write(1,
	lea([]byte{0x48, 0x8d, 0x35}, stateAt+32)                  //   state,
	c = append(c, 0xba, 32, 0, 0, 0, 0x0f, 0x05)               //   32)
	c = append(c, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05)   // exit(0)

	b := append(code, c...) // at codeAt
	b = append(b, make([]byte, stateAt-codeAt-len(b))...)
	for _, w := range []uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {
		b = le.AppendUint32(b, w)
	}
	b = append(b, make([]byte, 32)...)
	return testenv.ELF(append(b, padded...), codeAt, callerAt)
}
