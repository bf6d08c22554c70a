package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-tpm/tpm2/transport"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// newWorld returns a world without a kernel's list and without a TPM.
func newWorld(in []byte) (w *world, out, err *bytes.Buffer) {
	out, err = &bytes.Buffer{}, &bytes.Buffer{}
	return &world{in: bytes.NewReader(in), out: out, err: err, root: fstest.MapFS{},
		openTPM: func(string) (transport.TPMCloser, error) { return nil, errors.New("no TPM in this test") }}, out, err
}

// transcripts are what the program prints for real captures. In the arguments ~
// is imalog's folder of captures.
var transcripts = []struct {
	name  string
	args  string
	stdin string // file
}{
	{name: "help", args: "-h"},
	{name: "table-soft-reboot", args: "~imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements"},
	{name: "table-evm-and-odd-names", args: "~lists/6.12-cloud/evm-sig-xattr/binary_runtime_measurements"},
	{name: "table-wide-template-ima", args: "-wide -boot 1 -match init|tomtou|writers ~lists/6.12-cloud/ima-tcb/binary_runtime_measurements_sha256"},
	{name: "table-signed", args: "-match sign|hash ~lists/6.12-cloud/ima-modsig-xattr/ascii_runtime_measurements"},
	{name: "table-kexec-buffer", args: "~inject/6.12-cloud-tpm0/sent/ima_kexec_buffer.bin"},
	{name: "table-trimmed", args: "~trim/7.2-cloud/trimmed/binary_runtime_measurements"},
	{name: "table-last-boot", args: "-boot last ~x86-efi/chain-7.2/arrived-boot3/binary_runtime_measurements"},
	{name: "table-names", args: "-name /k/* -name /initrd? ~x86-efi/chain-7.2/arrived-boot3/binary_runtime_measurements"},
	{name: "table-staged", args: "~imakexec/staged/beforekexec/binary_runtime_measurements_sha256_staged ~imakexec/staged/beforekexec/binary_runtime_measurements_sha256"},
	{name: "table-folder", args: "-digest sha256 ~imakexec/staged/beforekexec"},
	{name: "table-wrong-digest", args: "~malformed/6.12-cloud-baddigest/sent/ima_kexec_buffer.bin"},
	{name: "ascii-stdin", args: "-o ascii -", stdin: mainline + "binary_runtime_measurements"},
	{name: "json", args: "-o json -match boot_|kexec_|init$ ~imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements"},
	{name: "json-evm", args: "-o json -match signed|sp_ace|openwriters ~lists/6.12-cloud/evm-sig-xattr/binary_runtime_measurements"},

	{name: "verify", args: "-verify ~imakexec/mainline-kexec_file_load/arrived/pcrs.txt ~imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements"},
	{name: "verify-tpm2_pcrread-stdin", args: "~imakexec/mainline-kexec_file_load/arrived/ascii_runtime_measurements -verify -", stdin: "testdata/tpm2_pcrread.txt"},
	{name: "verify-other-firmware", args: "-verify testdata/tpm2_pcrread-other-firmware.txt ~imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements"},
	{name: "verify-padded-in-one-boot", args: "-verify ~handover/7.2-cloud-6.1-cloud/after/pcrs.txt ~handover/7.2-cloud-6.1-cloud/after/binary_runtime_measurements"},
	{name: "verify-kernels-own-record-missing", args: "-verify ~handover/7.2-imakexec-7.2-cloud/arrived/pcrs.txt ~handover/7.2-imakexec-7.2-cloud/arrived/binary_runtime_measurements"},
	{name: "verify-records-lost", args: "-audit -verify ~late-records/6.12-cloud/arrived/pcrs.txt ~late-records/6.12-cloud/arrived/binary_runtime_measurements"},
	{name: "verify-earlier-values", args: "-verify ~handover/6.12-cloud-7.2-cloud/arrived/pcrs.txt ~handover/6.12-cloud-7.2-cloud/after/binary_runtime_measurements"},
	{name: "verify-earlier-values-prefix", args: "-prefix -verify ~handover/6.12-cloud-7.2-cloud/arrived/pcrs.txt ~handover/6.12-cloud-7.2-cloud/after/binary_runtime_measurements"},
	{name: "verify-trimmed", args: "-verify ~trim/7.2-cloud/trimmed/pcrs.txt ~trim/7.2-cloud/trimmed/binary_runtime_measurements"},
	{name: "verify-another-pcr", args: "-pcr 11 -verify ~trim/7.2-cloud/trimmed/pcrs.txt ~trim/7.2-cloud/trimmed/binary_runtime_measurements"},
	{name: "verify-json", args: "-o json -audit -verify ~handover/7.2-cloud-6.1-cloud/arrived/pcrs.txt ~handover/7.2-cloud-6.1-cloud/arrived/binary_runtime_measurements"},
	{name: "audit", args: "-audit ~arm64/kexec_file_load-chain/arrived-boot3/binary_runtime_measurements"},
	{name: "audit-snapshot-at-load", args: "-audit -verify ~imakexec/6.1-snapshot-at-load/arrived/pcrs.txt ~imakexec/6.1-snapshot-at-load/arrived/binary_runtime_measurements"},

	{name: "restore", args: "-restore ~inject/6.12-cloud-tpm0/sent/ima_kexec_buffer.bin"},
	{name: "restore-count-too-high", args: "-restore ~malformed/6.12-cloud-counthigh/sent/ima_kexec_buffer.bin"},
	{name: "restore-unknown-template", args: "-restore ~malformed/6.12-cloud-unknown/sent/ima_kexec_buffer.bin"},
	{name: "restore-version", args: "-restore ~malformed/6.12-cloud-version/sent/ima_kexec_buffer.bin"},

	{name: "damaged-cut", args: "-name /[sk]* ~malformed/6.12-cloud-trunc/sent/ima_kexec_buffer.bin"},
	{name: "damaged-name-length", args: "-o json -match x86 ~malformed/6.12-cloud-longname/sent/ima_kexec_buffer.bin"},
	{name: "damaged-field", args: "-o ascii ~malformed/6.12-cloud-fieldlen/sent/ima_kexec_buffer.bin"},
	{name: "damaged-garbage", args: "~malformed/6.12-cloud-garbage/sent/ima_kexec_buffer.bin"},
	{name: "damaged-verify", args: "-verify testdata/evmctl.sha1 ~malformed/6.12-cloud-trunc/sent/ima_kexec_buffer.bin"},

	{name: "usage", args: "-o xml"},
	{name: "no-list", args: ""},
	{name: "no-tpm", args: "-verify tpm"},
}

func TestTranscripts(t *testing.T) {
	for _, c := range transcripts {
		t.Run(c.name, func(t *testing.T) {
			var stdin []byte
			if c.stdin != "" {
				stdin = readFile(t, c.stdin)
			}
			args := strings.Fields(strings.ReplaceAll(c.args, "~", vectors))
			w, out, errs := newWorld(stdin)
			status := w.run(context.Background(), args)
			var got bytes.Buffer
			fmt.Fprintf(&got, "$ %s\n", strings.TrimSpace("imalist "+c.args))
			got.Write(out.Bytes())
			if errs.Len() > 0 {
				fmt.Fprintf(&got, "stderr:\n%s", errs)
			}
			fmt.Fprintf(&got, "exit status %d\n", status)
			text := bytes.ReplaceAll(got.Bytes(), []byte(vectors), []byte("~"))
			name := filepath.Join("testdata", "transcripts", c.name+".txt")
			if *update {
				if err := os.WriteFile(name, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, name); !bytes.Equal(text, want) {
				t.Errorf("%s:\n%s\nwant:\n%s", name, text, want)
			}
		})
	}
}

// run runs the program on files and returns what it prints.
func run(t testing.TB, stdin []byte, args ...string) (out, errs string, status int) {
	t.Helper()
	w, o, e := newWorld(stdin)
	status = w.run(context.Background(), args)
	return o.String(), e.String(), status
}

// Every captured list comes out of -o ascii as the kernel printed it, and out of
// -o binary as it was, from either form.
func TestFormsOfCaptures(t *testing.T) {
	lists := 0
	for _, name := range captured(t, func(name string) bool { return strings.HasPrefix(name, "binary_") }) {
		ascii := strings.Replace(name, "binary_", "ascii_", 1)
		for _, in := range []string{name, ascii} {
			for output, file := range map[string]string{"ascii": ascii, "binary": name} {
				out, errs, status := run(t, nil, "-o", output, in)
				if status != exitGood || errs != "" {
					t.Errorf("%s: status %d, %s", in, status, errs)
				}
				if out != string(readFile(t, file)) {
					t.Errorf("%s as %s is not %s", in, output, file)
				}
			}
		}
		lists++
	}
	if lists < 60 {
		t.Errorf("only %d lists", lists)
	}
}

// A big-endian list is shown like a little-endian one.
func TestBigEndian(t *testing.T) {
	list := readFile(t, mainline+"binary_runtime_measurements")
	want, _, _ := run(t, list, "-")
	got, errs, status := run(t, bigEndianList(t, list), "-")
	if status != exitGood || errs != "" || got != strings.Replace(want, "; binary,", "; binary, big-endian,", 1) {
		t.Errorf("status %d, %s\n%s", status, errs, got)
	}
	out, _, _ := run(t, bigEndianList(t, list), "-o", "json", "-")
	if strings.Contains(out, "error") || strings.Count(out, "\n") != 23 {
		t.Errorf("as JSON:\n%s", out)
	}
}

func TestFilters(t *testing.T) {
	list := vectors + "imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements"
	for args, want := range map[string]int{
		"":                                23,
		"-boot 1":                         19,
		"-boot 2":                         4,
		"-boot 1-":                        23,
		"-boot 3":                         0,
		"-boot last":                      4,
		"-template ima-buf":               4,
		"-template ima-buf,ima-sig":       23,
		"-template ima-buf -boot last":    1,
		"-name /d/*":                      9,
		"-name /d/* -name /s1":            10,
		"-match ^/s[12]$":                 3,
		"-match ^/s[12]$ -name /init":     5,
		"-pcr 10":                         23,
		"-pcr 9,11":                       0,
		"-pcr 10 -boot 1 -name kexec_*":   2,
		"-match kexec -template ima-sig":  1,
		"-name boot_aggregate -boot last": 1,
	} {
		out, errs, status := run(t, nil, append(strings.Fields(args), "-o", "ascii", list)...)
		if n := strings.Count(out, "\n"); n != want || status != exitGood || errs != "" {
			t.Errorf("%q: %d records, want %d; status %d, %s", args, n, want, status, errs)
		}
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-bogus":                         "flag provided but not defined: -bogus",
		"-o":                             "flag needs an argument: -o",
		"-o xml":                         "-o xml: it must be table, ascii, json, binary",
		"-boot zero":                     `invalid value "zero" for flag -boot: "zero" is no boot: give 2, 1-2, 2- or last`,
		"-pcr ten":                       `invalid value "ten" for flag -pcr: "ten" is no index of a PCR`,
		"-name [a":                       `invalid value "[a" for flag -name: no pattern: give something like '/usr/bin/*'`,
		"-match (":                       "invalid value \"(\" for flag -match: error parsing regexp: missing closing ): `(`",
		"-digest crc":                    `invalid value "crc" for flag -digest: "crc" is no hash algorithm of a PCR bank`,
		"-verify tpm -bank crc":          `invalid value "crc" for flag -bank: "crc" is no hash algorithm of a PCR bank`,
		"-verify tpm -o ascii":           "-verify and -audit do not print the list: -o can be table or json",
		"-audit -name /x":                "-verify and -audit need the whole list: leave out what chooses records",
		"-audit -boot last":              "-verify and -audit need the whole list: leave out what chooses records",
		"-audit -pcr 9,10":               "-verify and -audit check one PCR at a time",
		"-audit -pcr 0":                  "PCR 0 is the firmware's: it cannot be checked against a measurement list",
		"-audit -follow":                 "-follow never ends: it does not go with -verify or -audit",
		"-audit -restore x":              "-restore does not go with -verify or -audit",
		"-prefix x":                      "-prefix, -bank and -start say how to verify: give -verify as well",
		"-bank sha1 x":                   "-prefix, -bank and -start say how to verify: give -verify as well",
		"-follow -restore":               "-restore is for a kexec buffer, -follow for the running kernel",
		"-follow a b":                    "-follow takes one folder at most",
		"-follow -boot last":             "-boot last: which one is the last is not known while the list grows",
		"-follow -every 0s":              "-every 0s: it must be more than 0",
		"-follow main.go":                "main.go: -follow takes a folder like /sys/kernel/security/ima, or nothing for the running kernel",
		"- -":                            "standard input can be read once: give - once",
		"-verify - -":                    "standard input can be read once: give - once",
		"-verify sha1,- -":               "standard input can be read once: give - once",
		"-restore main.go main_test.go":  "-restore takes one file, a kexec buffer",
		"-verify tpm -wide=perhaps list": `invalid boolean value "perhaps" for -wide: parse error`,
	} {
		out, errs, status := run(t, nil, strings.Fields(args)...)
		if status != exitError || out != "" || errs != "imalist: "+want+"\nimalist -h explains everything\n" {
			t.Errorf("%s: status %d\n%s%s", args, status, out, errs)
		}
	}
}

func TestFlagsBehindFiles(t *testing.T) {
	list := vectors + "imakexec/mainline-kexec_file_load/arrived/binary_runtime_measurements"
	out, _, status := run(t, nil, list, "-o", "ascii", "-boot", "2")
	if status != exitGood || strings.Count(out, "\n") != 4 {
		t.Errorf("status %d\n%s", status, out)
	}
	// Behind -- there are only files.
	if _, errs, status := run(t, nil, "--", "-boot"); status != exitError || !strings.Contains(errs, "open -boot:") {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "short"), []byte("list"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no such file":       {[]string{filepath.Join(dir, "none")}, "none"},
		"a folder of others": {[]string{dir}, dir + ": no measurement list in this folder: name a file"},
		"no such values":     {[]string{"-verify", filepath.Join(dir, "none"), mainline + "binary_runtime_measurements"}, "none"},
		"values without it":  {[]string{"-verify", "testdata/evmctl.sha1", "-pcr", "30", mainline + "binary_runtime_measurements"}, "testdata/evmctl.sha1: no value of PCR 30"},
		"bank without value": {[]string{"-verify", "testdata/evmctl.sha1", "-bank", "sha256", mainline + "binary_runtime_measurements"}, "-bank sha256: there is no value for it"},
		"bad values":         {[]string{"-verify", "main.go", mainline + "binary_runtime_measurements"}, "main.go: not the values of PCRs: line 1: "},
		"not a buffer":       {[]string{"-restore", filepath.Join(dir, "short")}, "short: has 4 bytes; a kexec buffer begins with a header of 24"},
		"not a list":         {[]string{filepath.Join(dir, "short")}, "short: record 0 at offset 0: neither a binary nor an ASCII"},
	} {
		out, errs, status := run(t, nil, c.args...)
		if status != exitError || out != "" || !strings.HasPrefix(errs, "imalist: ") || !strings.Contains(errs, c.want) {
			t.Errorf("%s: status %d\n%s%s", name, status, out, errs)
		}
	}
}

// What is good before the damage is shown, and where it begins is said, in each form.
func TestDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		cut    int    // bytes that are left of it
		behind string // them
		shown  int
		want   string
	}{
		"binary, cut":           {"binary_runtime_measurements", 400, "", 3, "record 3 at offset 324: the list ends within this record"},
		"binary, noise behind":  {"binary_runtime_measurements", 324, strings.Repeat("\xff", 99), 3, "record 3 at offset 324: not a record"},
		"per bank, cut":         {"binary_runtime_measurements_sha256", 500, "", 4, "record 4 at offset 467: the list ends within this record"},
		"ASCII, cut":            {"ascii_runtime_measurements", 700, "", 4, "record 4 at offset 570: not a record"},
		"ASCII, another behind": {"ascii_runtime_measurements", 570, "and so on\n", 4, "record 4 at offset 570: not a record"},
	} {
		t.Run(name, func(t *testing.T) {
			list := append(readFile(t, mainline+c.file)[:c.cut:c.cut], c.behind...)
			for _, output := range outputs {
				out, errs, status := run(t, list, "-o", output, "-")
				if status != exitError || !strings.HasPrefix(errs, "imalist: standard input: "+c.want) {
					t.Errorf("%s: status %d, %s", output, status, errs)
				}
				if output == "json" || output == "ascii" {
					if n := strings.Count(out, "\n"); n != c.shown {
						t.Errorf("%s: %d records\n%s", output, n, out)
					}
				}
			}
		})
	}
	// In the second of two files: its own offset, the list's record.
	dir := t.TempDir()
	whole, cut := filepath.Join(dir, "whole"), filepath.Join(dir, "cut")
	list := readFile(t, mainline+"binary_runtime_measurements")
	for file, b := range map[string][]byte{whole: list, cut: list[:400]} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs, status := run(t, nil, whole, cut); status != exitError || !strings.HasPrefix(errs, "imalist: "+cut+": record 26 at offset 324: ") {
		t.Errorf("status %d, %s", status, errs)
	}
}

// errReader fails after what it has.
type errReader struct {
	io.Reader
	err error
}

func (r errReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err == io.EOF {
		err = r.err
	}
	return n, err
}

func TestStdinFails(t *testing.T) {
	w, _, errs := newWorld(nil)
	w.in = errReader{bytes.NewReader(readFile(t, mainline+"binary_runtime_measurements")), errors.New("the line is cut")}
	if status := w.run(context.Background(), []string{"-"}); status != exitError || errs.String() != "imalist: standard input: the line is cut\n" {
		t.Errorf("status %d, %s", status, errs)
	}
}

// full is a device on which nothing fits.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestOutputFails(t *testing.T) {
	for _, output := range outputs {
		w, _, errs := newWorld(nil)
		w.out = full{}
		status := w.run(context.Background(), []string{"-o", output, mainline + "binary_runtime_measurements"})
		if status != exitError || errs.String() != "imalist: no space left\n" {
			t.Errorf("%s: status %d, %s", output, status, errs)
		}
	}
}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "imalist")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// A list that is followed until somebody presses Ctrl-C.
func TestProgramFollows(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no signal that a test could send")
	}
	k := newKernel(t)
	k.show(0, 19)
	var out, errs screen
	cmd := exec.Command(build(t), "-follow", "-every", "5ms", k.dir)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	out.wait(t, "kexec_execute")
	k.show(0, 23)
	out.wait(t, "     22   10  ima-sig   sha256:e32d2ee48c73  /s2\n")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || errs.String() != "" {
		t.Errorf("%v, %s", err, errs.String())
	}
	if want := "# 23 records, 2 boots, 2555 bytes; followed until interrupted, sha1 digests\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("ends without a summary:\n%s", out.String())
	}
}

// The program as people run it: built, with files and pipes.
func TestProgram(t *testing.T) {
	binary := build(t)
	list := mainline + "binary_runtime_measurements"
	late := vectors + "late-records/6.12-cloud/arrived/"
	for name, c := range map[string]struct {
		args   []string
		stdin  string
		status int
		out    string // begins so
		errs   string // contains
	}{
		"table":            {args: []string{list}, out: "#record  pcr  template"},
		"ascii":            {args: []string{"-o", "ascii", list}, out: string(readFile(t, mainline+"ascii_runtime_measurements"))},
		"standard input":   {args: []string{"-o", "binary", "-"}, stdin: mainline + "ascii_runtime_measurements", out: string(readFile(t, list))},
		"help":             {args: []string{"-h"}, out: "Imalist shows"},
		"proved":           {args: []string{list, "-verify", mainline + "pcrs.txt"}, out: "PCR 10, 23 records, 2 boots\n"},
		"proved, in pipes": {args: []string{list, "-verify", "-"}, stdin: "testdata/tpm2_pcrread.txt", out: "PCR 10, 23 records, 2 boots\n"},
		"not proved":       {args: []string{late + "binary_runtime_measurements", "-verify", late + "pcrs.txt"}, status: exitBad, out: "PCR 10, 50 records"},
		"lost":             {args: []string{late + "binary_runtime_measurements", "-audit", "-verify", late + "pcrs.txt"}, status: exitBad, out: "PCR 10, 50 records"},
		"not restored":     {args: []string{"-restore", vectors + "malformed/6.12-cloud-countlow/sent/ima_kexec_buffer.bin"}, status: exitBad, out: "#record", errs: "7 of 8 records"},
		"damaged":          {args: []string{vectors + "malformed/6.12-cloud-trunc/sent/ima_kexec_buffer.bin"}, status: exitError, out: "#record", errs: "record 15 at offset 1542: the list ends within this record"},
		"usage":            {args: []string{"-o", "xml"}, status: exitError, errs: "-o xml"},
		"no such file":     {args: []string{filepath.Join(t.TempDir(), "none")}, status: exitError, errs: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, c.args...)
			if c.stdin != "" {
				f, err := os.Open(filepath.FromSlash(c.stdin))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cmd.Stdin = f
			}
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("exit status %d, want %d\n%s", got, c.status, errs.String())
			}
			if !strings.HasPrefix(out.String(), c.out) || c.out == "" && out.Len() > 0 {
				t.Errorf("printed\n%s", out.String())
			}
			if !strings.Contains(errs.String(), c.errs) || c.errs == "" && errs.Len() > 0 {
				t.Errorf("complained\n%s", errs.String())
			}
		})
	}
}

// Memory does not grow with a file that is shown or checked.
func TestConstantMemory(t *testing.T) {
	name := filepath.Join(t.TempDir(), "long")
	one := readFile(t, mainline+"binary_runtime_measurements")
	if err := os.WriteFile(name, bytes.Repeat(one, 20<<20/len(one)), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &opener{}
	in, err := o.open([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for _, err := range in.list(func(int64) {}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	runtime.ReadMemStats(&after)
	if n < 100_000 {
		t.Fatalf("%d records", n)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes allocated for %d records", grown, n)
	}
}
