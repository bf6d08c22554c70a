package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// bank makes what imalog says of a bank.
func bank(alg uint16, records, prefix int) imalog.BankResult {
	return imalog.BankResult{Alg: alg, Checked: true, Match: prefix == records, Prefix: prefix,
		Want: bytes.Repeat([]byte{1}, imalog.AlgSize(alg)), Got: bytes.Repeat([]byte{2}, imalog.AlgSize(alg))}
}

func TestJudge(t *testing.T) {
	const records = 9
	sha1, sha256 := bank(imalog.AlgSHA1, records, records), bank(imalog.AlgSHA256, records, records)
	sm3 := bank(imalog.AlgSM3_256, records, -1)
	sm3.Checked = false
	early := func(alg uint16, n int) imalog.BankResult { return bank(alg, records, n) }
	unextended := sha256
	unextended.Want = make([]byte, 32)
	wrong := []imalog.Finding{{Kind: imalog.FindingDigest, Record: 3}}
	for name, c := range map[string]struct {
		banks    []imalog.BankResult
		findings []imalog.Finding
		early    bool
		least    int
		good     bool
		proved   int
		reason   string
	}{
		"two banks":           {banks: []imalog.BankResult{sha1, sha256}, good: true, proved: 9, reason: "9 records, in 2 banks"},
		"a bank without hash": {banks: []imalog.BankResult{sha256, sm3}, good: true, proved: 9, reason: "9 records, in 1 bank"},
		"only such banks":     {banks: []imalog.BankResult{sm3}, reason: "there is a hash for none of the banks"},
		"one bank differs":    {banks: []imalog.BankResult{sha1, early(imalog.AlgSHA256, -1)}, reason: "the list does not yield sha256"},
		"earlier":             {banks: []imalog.BankResult{early(imalog.AlgSHA1, 7)}, proved: 7, reason: "the first 7 of 9 records only; -prefix takes values that were read before the last records were measured"},
		"earlier, allowed":    {banks: []imalog.BankResult{early(imalog.AlgSHA1, 7), early(imalog.AlgSHA256, 7)}, early: true, good: true, proved: 7, reason: "the first 7 of 9 records, in 2 banks; the others are later than the values"},
		"earlier, by one":     {banks: []imalog.BankResult{early(imalog.AlgSHA1, 7)}, early: true, least: 7, good: true, proved: 7, reason: "the first 7 of 9 records, in 1 bank; the others are later than the values"},
		"behind":              {banks: []imalog.BankResult{early(imalog.AlgSHA1, 7)}, early: true, least: 8, proved: 7, reason: "the first 7 of 9 records only, and 8 were there before the values were read"},
		"at different times":  {banks: []imalog.BankResult{early(imalog.AlgSHA1, 7), sha256}, early: true, proved: 7, reason: "the banks were read at different times: the first 7 of 9 records in all of them"},
		"never extended":      {banks: []imalog.BankResult{sha1, unextended}, early: true, reason: "nothing was extended into PCR 10 in sha256"},
		"a wrong digest":      {banks: []imalog.BankResult{sha1}, findings: wrong, proved: 9, reason: "1 wrong template digest in the list"},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(&imalog.Result{Records: records, Banks: c.banks, Findings: c.findings}, nil, 10, c.early, c.least)
			if v.Good != c.good || v.Reason != c.reason || c.good && v.Proved != c.proved {
				t.Errorf("%+v", v)
			}
			var text bytes.Buffer
			if err := v.print(&text); err != nil {
				t.Fatal(err)
			}
			word := map[bool]string{true: "\nproved: ", false: "\nNOT PROVED: "}[c.good]
			if !strings.Contains(text.String(), word+c.reason+"\n") {
				t.Errorf("printed\n%s", text.String())
			}
		})
	}
}

func TestRanges(t *testing.T) {
	for want, n := range map[string][]int{
		"boot 3": {3}, "boots 1, 3": {1, 3}, "boots 1-2": {1, 2}, "boots 1-3, 5, 7-8": {1, 2, 3, 5, 7, 8},
	} {
		if got := ranges(n); got != want {
			t.Errorf("%v: %s", n, got)
		}
	}
}

// Every form of values proves the list that belongs to them.
func TestVerifyForms(t *testing.T) {
	sysfs := sysfsFolder(t, mainlineValues)
	list := mainline + "binary_runtime_measurements"
	for name, c := range map[string]struct {
		args  string
		banks int
	}{
		"evmctl, one bank":     {"-verify testdata/evmctl.sha1", 1},
		"evmctl, two banks":    {"-verify testdata/evmctl.sha1 -verify testdata/evmctl.sha256", 2},
		"evmctl, banks named":  {"-verify sha1,testdata/evmctl.sha1 -verify sha256,testdata/evmctl.sha256", 2},
		"tpm2_pcrread":         {"-verify testdata/tpm2_pcrread.txt", 3},
		"lines with bank":      {"-verify " + mainline + "pcrs.txt", 3},
		"two forms, the same":  {"-verify " + mainline + "pcrs.txt -verify testdata/tpm2_pcrread.txt", 3},
		"sysfs folder":         {"-verify " + sysfs, 3},
		"sysfs file":           {"-verify " + filepath.Join(sysfs, "pcr-sha256", "10"), 1},
		"chosen banks":         {"-verify testdata/tpm2_pcrread.txt -bank sha256,sha384", 2},
		"per-bank list":        {"-verify testdata/tpm2_pcrread.txt -digest sha256", 3},
		"values named SHA-256": {"-verify sha256," + filepath.Join(sysfs, "pcr-sha256", "10"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			file := list
			if strings.Contains(c.args, "-digest") {
				file += "_sha256"
			}
			out, errs, status := run(t, nil, append(strings.Fields(c.args), file)...)
			if status != exitGood || errs != "" || strings.Count(out, "  match ") != c.banks {
				t.Errorf("status %d\n%s%s", status, out, errs)
			}
		})
	}
	// As SM3 the value is not checked, and nothing is proved.
	out, _, status := run(t, nil, "-verify", "sm3_256,testdata/evmctl.sha256", list)
	if status != exitBad || !strings.Contains(out, "sm3     unchecked") {
		t.Errorf("status %d\n%s", status, out)
	}
	if _, errs, status := run(t, nil, "-pcr", "9", "-verify", filepath.Join(sysfs, "pcr-sha256", "10"), list); status != exitError || !strings.Contains(errs, "is PCR 10, not PCR 9") {
		t.Errorf("status %d, %s", status, errs)
	}
	if _, errs, status := run(t, nil, "-verify", mainline+"pcrs.txt", "-verify", vectors+"trim/7.2-cloud/trimmed/pcrs.txt", list); status != exitError || !strings.Contains(errs, "trim/7.2-cloud/trimmed/pcrs.txt: PCR 10 has another value in sha1") {
		t.Errorf("status %d, %s", status, errs)
	}
}

// The PCRs 0 to 9 of another machine are not what the list began with; those of
// an earlier boot may differ, when a loader measures into them.
func TestVerifyBootAggregate(t *testing.T) {
	pcrs, err := imalog.ParsePCRs(readFile(t, mainline+"pcrs.txt"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	list := readFile(t, mainline+"binary_runtime_measurements")
	change := func(boot int) sequence { // which boot's aggregate is another
		return func(yield func(imalog.Record, error) bool) {
			n := 0
			for rec, err := range imalog.Records(list, nil) {
				if rec.BootAggregate() {
					if n++; n == boot {
						rec = rec.Clone()
						rec.Data[30] ^= 1
					}
				}
				if !yield(rec, err) {
					return
				}
			}
		}
	}
	for boot, want := range []verdict{
		{Good: true, Aggregates: 2},
		{Good: true, Aggregates: 1},
		{Aggregates: 1, Reason: "record 19 is the boot_aggregate of another boot or machine"},
	} {
		v := &verdict{Good: true}
		if err := v.aggregates(change(boot), pcrs); err != nil {
			t.Fatal(err)
		}
		if v.Good != want.Good || v.Aggregates != want.Aggregates || v.Reason != want.Reason || len(v.Findings) != 2-want.Aggregates {
			t.Errorf("boot %d changed: %+v", boot, v)
		}
	}
}

// Every capture is judged as the notes on the captures say.
func TestVerifyCaptures(t *testing.T) {
	bad := map[string]bool{
		"late-records/6.12-cloud/arrived":              true,
		"handover/7.2-imakexec-7.2-cloud/arrived":      true,
		"handover/7.2-imakexec-7.2-cloud/after":        true,
		"imakexec/6.1-snapshot-at-load/arrived":        true,
		"trim/7.2-cloud/trimmed":                       true,
		"arm64/no-memreserve/arrived":                  true,
		"arm64/stale-property/arrived-boot3":           true,
		"arm64/uefi-acpi-NOT-restored/arrived":         true,
		"arm64/uefi-acpi-NOT-restored/arrived-boot3":   true,
		"template-ima-unrestorable/6.12-cloud/arrived": true,
	}
	n := 0
	for _, name := range captured(t, func(name string) bool { return name == "ascii_runtime_measurements" }) {
		dir := filepath.Dir(name)
		short := strings.TrimPrefix(filepath.ToSlash(dir), vectors)
		if strings.HasPrefix(short, "malformed/") {
			continue // which of these arrived whole is imalog's business
		}
		files := []string{name}
		if strings.HasPrefix(short, "imakexec/staged/") {
			files = []string{name + "_sha256_staged", name + "_sha256"}
		}
		n++
		out, errs, status := run(t, nil, append(files, "-verify", filepath.Join(dir, "pcrs.txt"))...)
		if want := map[bool]int{true: exitBad, false: exitGood}[bad[short]]; status != want || errs != "" {
			t.Errorf("%s: status %d, want %d\n%s%s", short, status, want, out, errs)
		}
	}
	if n < 40 {
		t.Errorf("only %d captures", n)
	}
}

// A list whose oldest records were deleted replays from the value of then.
func TestVerifyFromStart(t *testing.T) {
	whole := readFile(t, mainline+"binary_runtime_measurements")
	r := imalog.NewReplayer(nil)
	cut := 0
	for rec, err := range imalog.Records(whole, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Count() == 5 {
			break
		}
		if err := r.Add(&rec); err != nil {
			t.Fatal(err)
		}
		cut += rec.BinarySize()
	}
	start := filepath.Join(t.TempDir(), "start")
	var text bytes.Buffer
	for alg, v := range r.Values() {
		text.WriteString(imalog.AlgName(alg) + ":10 " + strings.ToUpper(hexOf(v)) + "\n")
	}
	if err := os.WriteFile(start, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-verify", mainline + "pcrs.txt", "-bank", "sha1,sha256", "-"}
	if out, _, status := run(t, whole[cut:], args...); status != exitBad {
		t.Errorf("without the start: status %d\n%s", status, out)
	}
	if out, _, status := run(t, whole[cut:], append(args, "-start", start)...); status != exitGood {
		t.Errorf("status %d\n%s", status, out)
	}
	// The value before the first record proves none of them.
	out, _, status := run(t, whole[cut:], "-verify", start, "-start", start, "-prefix", "-")
	if status != exitBad || !strings.Contains(out, "UNUSED") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func hexOf(b []byte) string {
	text, _ := hexBytes(b).MarshalText()
	return string(text)
}

// A digest that is listed wrongly is no proof, whatever the data is.
func TestVerifyWrongDigest(t *testing.T) {
	list := readFile(t, mainline+"binary_runtime_measurements")
	list[4] ^= 1
	out, _, status := run(t, list, "-", "-verify", mainline+"pcrs.txt")
	if status != exitBad || !strings.Contains(out, "found: record 0: the digest listed is not that of the data") ||
		!strings.HasSuffix(out, "NOT PROVED: 1 wrong template digest in the list\n") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// Of SHA-256, too, whose size alone does not tell it from SM3, and in the first record.
func TestVerifyWrongDigestSHA256(t *testing.T) {
	list := readFile(t, mainline+"binary_runtime_measurements_sha256")
	i := 0
	for rec, err := range imalog.Records(list, &imalog.ReaderOptions{DigestSize: 32}) {
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || i == 5 {
			rec.Digest[0] ^= 1
		}
		i++
	}
	out, _, status := run(t, list, "-", "-verify", mainline+"pcrs.txt")
	if status != exitBad || !strings.HasSuffix(out, "NOT PROVED: 2 wrong template digests in the list\n") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// Where nothing can be said of the last boot's boot_aggregate, that of an earlier one,
// which other PCRs belong to, is no fault.
func TestVerifyAggregateOfAnEarlierBoot(t *testing.T) {
	rec := func(alg string, sum []byte) imalog.Record {
		r := imalog.Record{PCR: imalog.DefaultPCR, Template: "ima-ng", Digest: bytes.Repeat([]byte{1}, 20)}
		for _, f := range []string{alg + ":\x00" + string(sum), "boot_aggregate\x00"} {
			r.Data = binary.LittleEndian.AppendUint32(r.Data, uint32(len(f)))
			r.Data = append(r.Data, f...)
		}
		return r
	}
	pcrs := imalog.PCRs{}
	for i := range uint32(10) {
		pcrs[i] = imalog.Values{imalog.AlgSHA1: make([]byte, 20)}
	}
	old, last := rec("sha1", bytes.Repeat([]byte{7}, 20)), rec("sha256", bytes.Repeat([]byte{7}, 32))
	for _, tt := range []struct {
		list []imalog.Record
		good bool
	}{{[]imalog.Record{old, last}, true}, {[]imalog.Record{old}, false}} {
		v := &verdict{Good: true}
		err := v.aggregates(func(yield func(imalog.Record, error) bool) {
			for _, r := range tt.list {
				if !yield(r, nil) {
					return
				}
			}
		}, pcrs)
		if err != nil || v.Good != tt.good {
			t.Errorf("%d boots: %v, good %v: %s", len(tt.list), err, v.Good, v.Reason)
		}
	}
}

// What could be read of a damaged list is shown, be it one record.
func TestSecondRecordDamaged(t *testing.T) {
	list := readFile(t, mainline+"binary_runtime_measurements")
	for rec := range imalog.Records(list, nil) {
		copy(list[rec.BinarySize()+24:], "\xff\xff\xff\xff") // the length of the next one's template name
		break
	}
	out, errs, status := run(t, list, "-o", "ascii", "-")
	if !strings.Contains(out, " boot_aggregate ") || !strings.Contains(errs, "record 1") || status == 0 {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

func TestVerifyEmpty(t *testing.T) {
	out, _, status := run(t, nil, "-", "-verify", "testdata/evmctl.sha1")
	if status != exitBad || !strings.HasSuffix(out, "NOT PROVED: the list is empty\n") || strings.Contains(out, "found") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func TestVerifyJSON(t *testing.T) {
	out, _, status := run(t, nil, "-o", "json", "-audit", "-verify", mainline+"pcrs.txt", mainline+"binary_runtime_measurements")
	var v struct {
		PCR, Records, Proved int
		Boots                []int
		Good                 bool
		Banks                []struct {
			Bank, Verdict, Want, Got string
			Records                  int
		}
		Audit struct {
			Boundaries []struct{ Verdict string }
		}
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if status != exitGood || !v.Good || v.PCR != 10 || v.Records != 23 || v.Proved != 23 || len(v.Boots) != 2 || len(v.Banks) != 3 || len(v.Audit.Boundaries) != 2 {
		t.Errorf("status %d, %+v", status, v)
	}
	for _, b := range v.Banks {
		if alg, _ := imalog.AlgByName(b.Bank); b.Want != mainlineValues[alg] || b.Got != b.Want || b.Verdict != "match" || b.Records != 23 {
			t.Errorf("%+v", b)
		}
	}
	if got := v.Audit.Boundaries[1].Verdict; got != "complete" {
		t.Errorf("the soft reboot is %s", got)
	}
	if strings.Count(out, "\n") != 1 {
		t.Errorf("not one line:\n%s", out)
	}
}

// JSON lines hold the data of every field: the list can be made from them again.
func TestJSONIsWhole(t *testing.T) {
	for _, name := range captured(t, func(name string) bool { return strings.HasPrefix(name, "binary_runtime_measurements") }) {
		out, errs, status := run(t, nil, "-o", "json", name)
		if status != exitGood {
			t.Fatalf("%s: %s", name, errs)
		}
		list := string(readFile(t, strings.Replace(name, "binary_", "ascii_", 1)))
		records := 0
		for line := range strings.Lines(out) {
			records++
			var r struct {
				PCR              int
				Digest, Template string
				Name             *string
				Fields           []struct {
					ID, Alg, Type, Digest, Data, Error string
					Text                               *string
					Number                             *uint64
					Names                              []string
				}
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, line)
			}
			if !strings.Contains(list, r.Digest+" "+r.Template+" ") {
				t.Errorf("%s: no %s", name, r.Digest)
			}
			for _, f := range r.Fields {
				if f.Error != "" {
					t.Errorf("%s: %s: %s", name, f.ID, f.Error)
				}
				tag := ""
				if f.Alg != "" {
					tag = f.Alg + ":"
				}
				if f.Type != "" {
					tag = f.Type + ":" + tag
				}
				if f.Digest != "" && !strings.Contains(list, " "+tag+f.Digest+" ") {
					t.Errorf("%s: no digest %s%s", name, tag, f.Digest)
				}
				if f.ID == "n-ng" && (f.Text == nil || r.Name == nil || *f.Text != *r.Name) {
					t.Errorf("%s: name %v, text %v", name, r.Name, f.Text)
				}
			}
		}
		whole := 0
		for _, err := range imalog.Records(readFile(t, name), &imalog.ReaderOptions{DigestSize: map[bool]int{true: 32, false: 20}[strings.Contains(name, "_sha256")]}) {
			if err != nil {
				t.Fatal(err)
			}
			whole++
		}
		if records != whole {
			t.Errorf("%s: %d lines for %d records", name, records, whole)
		}
	}
}
