//go:build linux

// Package vmtest tells stories that need several kernels: it boots one in QEMU
// with a TPM (swtpm), whose init is the test binary itself, lets it kexec into
// the next, and brings back what the guest captured.
//
// A story is a Scenario: one Go function for each boot, written beside the test
// that runs it. TestMain hands the scenarios to Main, which runs the right
// function when the binary finds itself to be process 1 of a guest, and the tests
// otherwise.
//
// A guest has no shell and no other program: an initramfs with this binary, the
// kernels it needs, and whatever files the test adds. IMA measures that ramfs
// under the tcb policy; /tmp and /run are a tmpfs, which it does not measure.
package vmtest

import (
	"fmt"
	"os"
	"testing"
)

// Environment variables that the kernel passes on from its command line to
// process 1, and a guest to the processes it starts.
const (
	bootEnv    = "VMTEST_BOOT"    // number of this boot, from 0; marks a guest
	processEnv = "VMTEST_PROCESS" // name of the function that this process is to run
)

// Scenario is what happens in a machine from power-on to power-off.
type Scenario struct {
	Name string

	// Boots holds one function for each boot, in order; the last serves all that
	// follow. A machine boots as often as Config.Kernels says: every boot but the last
	// ends with a kexec or with Guest.Reboot, and after the last the machine is
	// powered off.
	Boots []func(*Guest)

	// Processes are functions that a boot can run in a process of their own, see
	// Guest.Run.
	Processes map[string]func(*Guest)
}

// Main is the body of TestMain in a package whose tests boot machines. It does
// not return.
func Main(m *testing.M, scenarios ...Scenario) {
	if os.Getenv(bootEnv) != "" && (os.Getpid() == 1 || os.Getenv(processEnv) != "") {
		guestMain(scenarios)
	}
	seen := make(map[string]bool)
	for _, s := range scenarios {
		if seen[s.Name] || s.Name == "" || len(s.Boots) == 0 {
			fmt.Fprintf(os.Stderr, "vmtest: scenario %q: no name, no boots, or twice the same\n", s.Name)
			os.Exit(2)
		}
		seen[s.Name] = true
	}
	dir, err := os.MkdirTemp("", "vmtest-init")
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		os.Exit(2)
	}
	os.Setenv(initEnv, dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
