package imalog_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"testing/fstest"

	"github.com/imakexec/imakexec/imalog"
)

// A list of a real machine, after a kexec from Linux 7.2 to 6.1.
const (
	exampleList   = "testdata/handover/7.2-cloud-6.1-cloud/arrived/binary_runtime_measurements"
	exampleBuffer = "testdata/handover/7.2-cloud-6.1-cloud/sent/ima_kexec_buffer.bin"
)

// Reading a list as a stream.
func ExampleReader() {
	f, err := os.Open(exampleList) // or /sys/kernel/security/ima/binary_runtime_measurements
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	list := imalog.NewReader(f, nil)
	for {
		rec, err := list.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		if rec.BootAggregate() || rec.Violation() {
			fmt.Println(list.Count()-1, rec)
		}
	}
	// Output:
	// 0 PCR 10 ima-sig "boot_aggregate"
	// 45 PCR 10 ima-sig "/d/tomtou"
	// 46 PCR 10 ima-sig "/d/openwriters"
	// 51 PCR 10 ima-sig "boot_aggregate"
}

// Filtering a list that is in memory, and decoding the fields of what is left.
func ExampleRecords() {
	list, err := os.ReadFile(exampleList)
	if err != nil {
		log.Fatal(err)
	}
	for rec, err := range imalog.Records(list, nil) {
		if err != nil {
			log.Fatal(err)
		}
		if rec.Template != "ima-buf" {
			continue
		}
		for f, err := range rec.Fields() {
			if err != nil {
				log.Fatal(err)
			}
			switch f.Kind() {
			case imalog.KindDigest:
				d, err := f.FileDigest()
				if err != nil {
					log.Fatal(err)
				}
				fmt.Printf("%s %x… ", d.Alg(), d.Sum[:4])
			case imalog.KindText:
				name, err := f.Text()
				if err != nil {
					log.Fatal(err)
				}
				fmt.Printf("%s ", name)
			default:
				fmt.Printf("%s\n", f.Data)
			}
		}
	}
	// Output:
	// sha256 0368146f… kernel_version 7.2.13+deb14-cloud-amd64
	// sha256 dafd29f4… kernel_version 6.1.0-56-cloud-amd64
}

// Verifying a list against the PCR values of a quote, in as many banks as the
// quote has.
func ExampleVerify() {
	list, err := os.ReadFile(exampleList)
	if err != nil {
		log.Fatal(err)
	}
	quoted := imalog.Values{}
	for alg, value := range map[uint16]string{
		imalog.AlgSHA256: "95c3364d01cf301716950ead0a00c6064b668766c1b32fcd1be6499f8dc204c3",
		imalog.AlgSHA384: "bc2abbf894e356e918be2ae26187c18ceaf20cce4f2de8e08eabdaa11920238463788f8cce6eef374bbb97e15767b7d0",
	} {
		if quoted[alg], err = hex.DecodeString(value); err != nil {
			log.Fatal(err)
		}
	}
	res, err := imalog.Verify(context.Background(), imalog.Records(list, nil), quoted, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("matched:", res.Matched())
	for _, b := range res.Banks {
		fmt.Printf("%s: %d of %d records, padded in boot: %v\n", imalog.AlgName(b.Alg), b.Prefix, res.Records, b.Padded)
	}
	for _, f := range res.Findings {
		fmt.Println(f)
	}
	// Output:
	// matched: true
	// sha256: 55 of 55 records, padded in boot: [false false]
	// sha384: 55 of 55 records, padded in boot: [false true]
}

// Replaying record by record, to see where a PCR value was reached.
func ExampleReplayer() {
	list, err := os.ReadFile(exampleList)
	if err != nil {
		log.Fatal(err)
	}
	r := imalog.NewReplayer(nil)
	for rec, err := range imalog.Records(list, nil) {
		if err == nil {
			err = r.Add(&rec)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("%d records: %x\n", r.Count(), r.Values()[imalog.AlgSHA1])
	// Output:
	// 55 records: 37e758c1fcbd8c6985090aa531fd0dbe222a722a
}

// Writing a kexec buffer, and what the next kernel makes of it.
func ExampleDump() {
	list, err := os.ReadFile(exampleList)
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 8192)
	n, err := imalog.Dump(buffer, imalog.Records(list, nil))
	if errors.Is(err, imalog.ErrShort) {
		fmt.Println("the buffer is too small: the last records are left out")
	} else if err != nil {
		log.Fatal(err)
	}
	restored, header, err := imalog.Restore(buffer)
	fmt.Println(n, header.Count, len(restored), err)
	// Output:
	// 5704 55 55 <nil>
}

// Reading a buffer that a kernel was handed.
func ExampleRestore() {
	buffer, err := os.ReadFile(exampleBuffer)
	if err != nil {
		log.Fatal(err)
	}
	clear(buffer[2000:]) // damaged on the way
	list, header, err := imalog.Restore(buffer)
	fmt.Printf("%d of %d records arrive\n%v\n", len(list), header.Count, err)
	// Output:
	// 19 of 51 records arrive
	// imalog: kexec buffer: record 19 at offset 1997: unknown template
}

// Following the live list: everything once, then only what is new.
func ExampleLive() {
	fsys := exampleMachine() // os.DirFS("/") on a live machine
	list := imalog.Live(fsys, nil)
	defer list.Close()
	for {
		_, err := list.Next()
		if err == io.EOF {
			// Nothing new: wait and call Next again. Pause lets others delete records.
			break
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(list.Count(), "records")
	// Output:
	// 55 records
}

func exampleMachine() fstest.MapFS {
	list, err := os.ReadFile(exampleList)
	if err != nil {
		log.Fatal(err)
	}
	return fstest.MapFS{"sys/kernel/security/ima/binary_runtime_measurements": {Data: list}}
}

// Reading a list whose form is not known: binary, text or a kexec buffer.
func ExampleRecognize() {
	for _, name := range []string{
		exampleList,
		"testdata/handover/7.2-cloud-6.1-cloud/arrived/ascii_runtime_measurements",
		exampleBuffer,
	} {
		file, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		form, ok := imalog.Recognize(file)
		if !ok {
			log.Fatal("not a list")
		}
		n := 0
		for _, err := range form.Stream(bytes.NewReader(file), -1) {
			if err != nil {
				log.Fatal(err)
			}
			n++
		}
		fmt.Println(form.Text, form.Kexec, n)
	}
	// Output:
	// false false 55
	// true false 55
	// false true 51
}

// Printing a list as the kernel does.
func ExampleRecord_AppendText() {
	list, err := os.ReadFile(exampleList)
	if err != nil {
		log.Fatal(err)
	}
	for rec, err := range imalog.Records(list, nil) {
		if err != nil {
			log.Fatal(err)
		}
		line, err := rec.AppendText(nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s", line)
		break
	}
	// Output:
	// 10 55e19427c290674f58ab9ae99e79735ce1ce7be7 ima-sig sha256:a14aab10a180793f814c2bc58573fc52139506aa324f2cbff7ff04a9794a26d4 boot_aggregate
}
