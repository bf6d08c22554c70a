package events_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

func ExampleNewRecord() {
	payload, err := events.Figures{SegmentSize: 4096, ListSize: 1355, Count: 13}.AppendText(nil)
	if err != nil {
		log.Fatal(err)
	}
	rec, err := events.NewRecord(events.KexecLoad, payload, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d %x %s %s %s\n", rec.PCR, rec.Digest, rec.Template, rec.Name(), rec.Buf())
	// Output:
	// 10 6e0d7b27c8c8dfbb376de0b194beeee13df27df3 ima-buf kexec_load kexec_segment_size=4096;ima_binary_runtime_size=1355;ima_runtime_measurements_count=13;
}

func ExampleEvent_Record() {
	e := events.Event{Label: "boot-plan", Name: "chosen-kernel", Data: []byte("/boot/vmlinuz-6.12")}
	rec, err := e.Record(&events.RecordOptions{Alg: imalog.AlgSHA512})
	if err != nil {
		log.Fatal(err)
	}
	back, err := events.ParseEvent(&rec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", back.Name, back.Data)
	// Output:
	// chosen-kernel: /boot/vmlinuz-6.12
}

func ExampleParseFigures() {
	f, err := events.ParseFigures([]byte("kexec_segment_size=4096;ima_binary_runtime_size=1968;ima_runtime_measurements_count=18;"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d records, %d of %d bytes\n", f.Count, f.ListSize, f.SegmentSize)
	// Output:
	// 18 records, 1968 of 4096 bytes
}

// A machine has linuxtpm.Open("/dev/tpmrm0") and /run/imakexec in the place of
// what stands in for them here.
func ExampleMeasurer_Measure() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tpm := softtpm.New(nil)

	journal, err := events.OpenJournal(filepath.Join(dir, "state"), &events.JournalOptions{BootID: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer journal.Close()
	m := &events.Measurer{TPM: tpm, Journal: journal}
	rec, err := events.NewRecord("chosen-kernel", []byte("/boot/vmlinuz-6.12"), nil)
	if err != nil {
		log.Fatal(err)
	}
	done, err := m.Measure(context.Background(), &rec, 0)
	var failed *events.MeasureError
	if errors.As(err, &failed) {
		log.Fatalf("%v: the record is %v", err, failed.Outcome)
	}
	fmt.Println(done.Outcome, len(done.After), "banks")
	fmt.Println("entry", journal.Entries()[0].Seq, journal.Entries()[0].State)
	// Output:
	// done 2 banks
	// entry 1 extended
}

// An agent that attests while a record of user space is not in the kernel's list
// yet: it puts the journal's entries where the PCR proves them to be.
func ExampleSplice() {
	// What the kernel measured, and the bootloader in between.
	var kernel []imalog.Record
	for _, name := range []string{"boot_aggregate", "/init", "/bin/sh", "/bin/kexec"} {
		rec, _ := events.NewRecord(name, []byte("x"), nil)
		kernel = append(kernel, rec)
	}
	own, _ := events.NewRecord(events.KexecLoad, []byte("y"), nil)
	pcr := imalog.NewReplayer(nil)
	pcr.Add(&kernel[0])
	pcr.Add(&kernel[1])
	journal := []events.Entry{{Record: own, Before: pcr.Values()}}
	pcr.Add(&kernel[2]) // the kernel was faster
	pcr.Add(&own)
	pcr.Add(&kernel[3])

	s, err := events.Splice(context.Background(), imalog.NewReplayer(nil), kernel, journal, pcr.Values(), nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, rec := range s.Merge(kernel, journal) {
		fmt.Println(rec.Name())
	}
	// Output:
	// boot_aggregate
	// /init
	// /bin/sh
	// kexec_load
	// /bin/kexec
}

func ExampleAudit() {
	b, err := os.ReadFile("../imalog/testdata/imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements")
	if err != nil {
		log.Fatal(err)
	}
	report, err := events.Audit(context.Background(), imalog.Records(b, nil), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(report)
	// Output:
	// 23 records in 2 boots; without a proof
	// records 0-18: cold boot, Linux 7.2.13-imakexec
	// records 19-22: soft reboot, complete, Linux 7.2.13-imakexec
	//     kexec_load (record 13), 4 records, kexec_execute (record 18), made by the kernel
}
