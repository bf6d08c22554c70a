//go:build linux

package vmtest

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os/exec"
)

//go:embed install.sh
var installScript string

// Install brings the programs that a machine needs, as root or with sudo on Debian
// and Ubuntu. Where they are there already it does nothing, and elsewhere its error
// says what to install.
func Install(ctx context.Context, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", installScript, "install.sh")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("vmtest: install programs: %w", err)
	}
	return nil
}
