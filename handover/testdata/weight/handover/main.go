// Handover is what a bootloader links that calls Load and Execute.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	tpm, err := linuxtpm.Open("/dev/tpmrm0")
	if err != nil {
		return err
	}
	kernel, err := os.Open("/boot/vmlinuz")
	if err != nil {
		return err
	}
	h, err := handover.Load(ctx, &linuximage.Linux{Kernel: kernel}, &handover.Options{TPM: tpm})
	if err != nil {
		return err
	}
	return h.Execute(ctx)
}
