//go:build linux

package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// manufactureTPM makes the state of a TPM that was never used, with these PCR
// banks allocated ("sha1", "sha256", ...).
func manufactureTPM(ctx context.Context, dir string, banks []string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	args := []string{"--tpm2", "--tpm-state", dir, "--pcr-banks", strings.Join(banks, ",")}
	if os.Getuid() == 0 {
		args = append(args, "--runas", "root") // its default user cannot write here
	}
	out, err := exec.CommandContext(ctx, "swtpm_setup", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("vmtest: swtpm_setup: %w\n%s", err, out)
	}
	return nil
}

// startTPM powers the TPM of that state on; QEMU reaches it through the socket
// that it returns the path of.
func startTPM(ctx context.Context, state string) (*process, string, error) {
	socket := filepath.Join(filepath.Dir(state), "tpm.sock")
	os.Remove(socket)
	p, err := startProcess("swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+socket)
	if err != nil {
		return nil, "", err
	}
	for {
		if _, err := os.Stat(socket); err == nil {
			return p, socket, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.done:
			return nil, "", p.failed()
		case <-ctx.Done():
			p.stop()
			return nil, "", ctx.Err()
		}
	}
}
