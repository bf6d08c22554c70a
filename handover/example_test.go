package handover_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/handover/handovertest"
)

// The machine of handovertest lets a program that uses this package be tested
// without root, a virtual machine or a TPM.
func ExampleLoad() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	m, err := handovertest.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	opts := &handover.Options{System: m, TPM: m.TPM(), StateDir: dir + "/state"}

	h, err := handover.Load(ctx, &handovertest.Target{}, opts)
	if err != nil {
		log.Fatal(err)
	}
	m.MeasureFile("/usr/bin/late", []byte("measured after the load"))
	if err := h.Execute(ctx); err != nil {
		log.Fatal(err)
	}

	report, err := handover.Arrive(ctx, &handover.ReadOptions{System: m, TPM: m.TPM(), StateDir: dir + "/state"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report)
	// Output: complete: 5 records over 2 boots, replays to the PCR in sha1, sha256
}

// Another process of the same boot seals, and somebody else reboots.
func ExampleResume() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	m, err := handovertest.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	opts := &handover.Options{System: m, TPM: m.TPM(), StateDir: dir + "/state", Persist: true}
	h, err := handover.Load(ctx, &handovertest.Target{}, opts)
	if err != nil {
		log.Fatal(err)
	}
	h.Close() // the process ends, and /boot is unmounted

	h, err = handover.Resume(ctx, nil, opts)
	if err != nil {
		log.Fatal(err)
	}
	if err := h.Seal(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("sealed:", h.Status().Proof)
	// Output: sealed: replays to the PCR in sha1, sha256
}

// An attestation agent reads the list that the PCR proves at this moment.
func ExampleReadList() {
	ctx := context.Background()
	m, err := handovertest.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	m.MeasureFile("/usr/bin/agent", []byte("agent"))
	list, err := handover.ReadList(ctx, &handover.ReadOptions{System: m, TPM: m.TPM()})
	if err != nil {
		log.Fatal(err)
	}
	for rec, err := range list.Records() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(rec.PCR, rec.Template, rec.Name())
	}
	fmt.Println(list.Proof)
	// Output:
	// 10 ima-ng boot_aggregate
	// 10 ima-ng /usr/bin/agent
	// replays to the PCR in sha1, sha256
}

// In the next kernel: what became of the list?
func ExampleArrive() {
	report, err := handover.Arrive(context.Background(), nil)
	if errors.Is(err, handover.ErrNoList) {
		fmt.Println("this kernel has no measurement list")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	if report.Verdict == handover.Lost {
		fmt.Println("records are missing before record", report.Since)
	}
	for rec := range report.List.Records() {
		line, _ := rec.AppendText(nil)
		fmt.Printf("%s\n", line)
	}
}
