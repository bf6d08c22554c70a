//go:build linux

package handover_test

import (
	"context"
	"errors"
	"log"
	"os"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

// A bootloader or a reboot tool hands its list over to the next kernel.
func Example() {
	ctx := context.Background()
	tpm, err := linuxtpm.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer tpm.Close()
	kernel, err := os.Open("/boot/vmlinuz")
	if err != nil {
		log.Fatal(err)
	}
	initrd, err := os.Open("/boot/initrd.img")
	if err != nil {
		log.Fatal(err)
	}
	target := &linuximage.Linux{Kernel: kernel, Initrd: initrd, Cmdline: "root=/dev/vda1 ima_policy=tcb"}

	h, err := handover.Load(ctx, target, &handover.Options{TPM: tpm, Quiesce: &handover.StopProcesses{}})
	if errors.Is(err, handover.ErrNoList) {
		log.Fatal("nothing to hand over: an ordinary kexec loses nothing")
	}
	if err != nil {
		log.Fatal(err)
	}
	// ... hours later ...
	log.Fatal(h.Execute(ctx)) // returns only on failure
}
