// Package testenv decides what happens to a test that needs more than a Go
// toolchain: a virtual machine, root, a program of the distribution.
package testenv

import (
	"os"
	"testing"
)

// FullEnv is the environment variable that asks for every test. Under it a
// missing requirement is a failure; without it the test is skipped and says why.
const FullEnv = "IMAKEXEC_TEST"

// Full reports whether every test was asked for (IMAKEXEC_TEST=all).
func Full() bool { return os.Getenv(FullEnv) == "all" }

// Skip ends a test that lacks what it needs: it skips in a plain "go test" and
// fails when every test was asked for.
func Skip(t testing.TB, why string) {
	t.Helper()
	if Full() {
		t.Fatalf("%s=all forbids skipping: %s", FullEnv, why)
	}
	t.Skipf("%s (make test brings what it needs and runs it)", why)
}

// NeedFull skips a test that is too heavy for a plain "go test".
func NeedFull(t testing.TB, why string) {
	t.Helper()
	if !Full() {
		Skip(t, why)
	}
}
