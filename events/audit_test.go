package events

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

func readCapture(t testing.TB, dir string) []imalog.Record { return readList(t, captures+dir) }

func audit(t testing.TB, list []imalog.Record, opts *AuditOptions) *Report {
	t.Helper()
	r, err := Audit(t.Context(), sequence(list), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verdicts(r *Report) string {
	var v []string
	for _, b := range r.Boundaries {
		v = append(v, b.Verdict.String())
	}
	return strings.Join(v, " ")
}

// TestAuditCaptures judges every captured list, by itself and with the PCR. What
// it has to find is what the makers of the captures say of them.
func TestAuditCaptures(t *testing.T) {
	type finding struct {
		alone, proved string
		proof         Proof
	}
	cold := finding{"cold", "cold", Proved}
	noEvents := finding{"cold silent", "cold complete", Proved}
	noEventsTwice := finding{"cold silent silent", "cold complete complete", Proved}
	events := finding{"cold complete", "cold complete", Proved}
	noneRestored := finding{"cold", "unproved", Disproved} // the list was lost as a whole
	someRestored := finding{"cold silent", "cold lost", Disproved}
	senderMeasured := finding{"cold silent", "cold lost", ProvedWith}
	noBeginning := finding{"headless", "headless", NoProof}
	special := map[string]finding{
		"arm64/kexec_file_load-chain/arrived":          events,
		"arm64/kexec_file_load-chain/arrived-boot3":    {"cold complete complete", "cold complete complete", Proved},
		"arm64/kexec_load-chain-1/arrived-boot3":       noEventsTwice,
		"arm64/no-memreserve/arrived":                  noneRestored,
		"arm64/stale-property/arrived-boot3":           noneRestored,
		"arm64/uefi-acpi-NOT-restored/arrived":         noneRestored,
		"arm64/uefi-acpi-NOT-restored/arrived-boot3":   noneRestored,
		"arm64/uefi-dt-chain/arrived-boot3":            noEventsTwice,
		"handover/7.2-imakexec-7.2-cloud/arrived":      senderMeasured,
		"handover/7.2-imakexec-7.2-cloud/after":        senderMeasured,
		"imakexec/6.1-snapshot-at-load/arrived":        someRestored,
		"imakexec/mainline-kexec_file_load/arrived":    events,
		"imakexec/mainline-kexec_file_load/after":      events,
		"imakexec/mainline-kexec_file_load/afterload":  cold,
		"imakexec/staged/arrived":                      events,
		"imakexec/staged/beforekexec":                  noBeginning, // the beginning is staged
		"imakexec/staged/staged":                       {"", "", Disproved},
		"inject/6.12-cloud-tpm0/arrived":               {"cold lost", "cold complete", Proved}, // kexec_load alone was injected
		"inject/6.12-cloud-tpm0/after":                 {"cold lost", "cold complete", Proved},
		"late-records/6.12-cloud/arrived":              someRestored,
		"template-ima-unrestorable/6.12-cloud/arrived": noneRestored,
		"trim/7.2-cloud/trimmed":                       noBeginning,
		"x86-efi/chain-7.2/arrived-boot3":              noEventsTwice,
	}
	// Buffers damaged on purpose: what the kernel kept of 16 records.
	for _, name := range []string{"baddigest", "counthigh"} {
		special["malformed/6.12-cloud-"+name+"/arrived"] = noEvents
	}
	for _, name := range []string{"count0", "countmax", "garbage", "version"} {
		special["malformed/6.12-cloud-"+name+"/arrived"] = noneRestored
	}
	for _, name := range []string{
		"bshuge", "bslarge", "bssmall", "countlow", "fieldlen", "fmt", "longname",
		"trunc", "truncclean", "truncfix", "unknown", "zerodigest",
	} {
		special["malformed/6.12-cloud-"+name+"/arrived"] = someRestored
	}
	judged := map[string]bool{}
	err := filepath.WalkDir(captures, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "binary_runtime_measurements" {
			return err
		}
		dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), filepath.Clean(captures)+string(filepath.Separator)))
		want, ok := special[dir]
		switch {
		case ok:
		case strings.HasPrefix(dir, "lists/"), strings.HasSuffix(dir, "/before"):
			want = cold
		case strings.HasSuffix(dir, "/arrived"), strings.HasSuffix(dir, "/after"):
			want = noEvents
		default:
			t.Errorf("%s: a capture without a finding", dir)
			return nil
		}
		judged[dir] = true
		list := readCapture(t, dir)
		r := audit(t, list, nil)
		if got := verdicts(r); got != want.alone || r.Proof != NoProof {
			t.Errorf("%s alone: %q, proof %v; want %q", dir, got, r.Proof, want.alone)
		}
		r = audit(t, list, &AuditOptions{Want: readPCR(t, filepath.Join(captures, dir))})
		if got := verdicts(r); got != want.proved || r.Proof != want.proof {
			t.Errorf("%s with its PCR: %q, proof %v; want %q, %v\n%s", dir, got, r.Proof, want.proved, want.proof, r)
		}
		for _, b := range r.Boundaries {
			if (b.Verdict == Lost || b.Verdict == Truncated) != (b.Loss != nil) || b.Loss != nil && (b.Loss.After != b.Record-1 || b.Loss.Before != b.Record) {
				t.Errorf("%s: boundary at %d is %v, loss %+v", dir, b.Record, b.Verdict, b.Loss)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range special {
		if !judged[dir] {
			t.Errorf("%s: a finding without a capture", dir)
		}
	}
	if len(judged) < 60 {
		t.Errorf("only %d captures", len(judged))
	}
}

func TestAuditMainline(t *testing.T) {
	list := readCapture(t, "imakexec/mainline-kexec_file_load/after")
	r := audit(t, list, &AuditOptions{Want: readPCR(t, mainline+"after")})
	b := r.Boundaries[1]
	if b.Record != 19 || b.Load.Record != 13 || b.Execute.Record != 18 || b.Between != 4 || b.Maker != MakerKernel || b.Kernel != "7.2.13-imakexec" || r.Covered != 26 {
		t.Errorf("%+v\n%s", b, r)
	}
	// The PCR as it was on arrival, three records earlier.
	r = audit(t, list, &AuditOptions{Want: readPCR(t, mainline+"arrived")})
	if r.Proof != Proved || r.Covered != 23 || verdicts(r) != "cold complete" {
		t.Errorf("with an older value:\n%s", r)
	}
	// One from before the reboot says nothing of it.
	r = audit(t, list, &AuditOptions{Want: readPCR(t, mainline+"afterload")})
	if r.Proof != Disproved || r.Covered != 0 {
		t.Errorf("with a value from before the reboot:\n%s", r)
	}
}

func TestAuditMissingRecord(t *testing.T) {
	const dir = "handover/7.2-imakexec-7.2-cloud/arrived"
	list := readCapture(t, dir)
	r := audit(t, list, &AuditOptions{Want: readPCR(t, captures+dir)})
	b := r.Boundaries[1]
	if b.Missing == nil || b.Missing.Name() != KexecExecute || b.Loss.Records != 1 {
		t.Fatalf("%+v", b)
	}
	f, err := ParseFigures(b.Missing.Buf())
	if want := (Figures{ListSize: 5271, Count: 51}); err != nil || f != want {
		t.Errorf("missing record says %+v, %v; want %+v", f, err, want)
	}
	// With it the list replays in all four banks.
	whole := slices.Concat(list[:b.Record], []imalog.Record{*b.Missing}, list[b.Record:])
	result, err := imalog.Verify(t.Context(), sequence(whole), readPCR(t, captures+dir), nil)
	if err != nil || !result.Matched() || len(result.Banks) != 4 {
		t.Errorf("%+v, %v", result, err)
	}
}

// afternoon makes lists of boots with kexec events as it is told.
type afternoon struct {
	t    testing.TB
	list []imalog.Record
}

func (a *afternoon) add(name string, data string) *afternoon {
	a.list = append(a.list, record(a.t, name, data))
	return a
}

func (a *afternoon) boot() *afternoon { return a.add("boot_aggregate", "b") }

func (a *afternoon) files(n int) *afternoon {
	for i := range n {
		a.add(fmt.Sprintf("/file/%d", len(a.list)), fmt.Sprint(i))
	}
	return a
}

// figures are those of the present end of the list.
func (a *afternoon) figures() Figures {
	f := Figures{SegmentSize: 65536, ListSize: 24, Count: uint64(len(a.list))}
	for i := range a.list {
		f.ListSize += uint64(a.list[i].BinarySize())
	}
	return f
}

func (a *afternoon) event(name string, f Figures) *afternoon {
	payload, err := f.AppendText(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.add(name, string(payload))
}

// now measures an event as the kernel does.
func (a *afternoon) now(name string) *afternoon { return a.event(name, a.figures()) }

// drop loses records.
func (a *afternoon) drop(from, to int) *afternoon {
	a.list = slices.Delete(a.list, from, to)
	return a
}

// change puts another record in the place of one.
func (a *afternoon) change(i int, name string) *afternoon {
	a.list[i] = record(a.t, name, "other")
	return a
}

func TestAuditEvents(t *testing.T) {
	start := func() *afternoon { return (&afternoon{t: t}).boot().files(3) }
	tests := []struct {
		name    string
		make    func() *afternoon
		want    string
		maker   Maker
		between uint64
		loss    *Loss
	}{
		{"mainline's order", func() *afternoon {
			return start().now(KexecLoad).files(5).now(KexecExecute).boot()
		}, "cold complete", MakerKernel, 5, nil},
		{"both at execute, load with the figures of the load", func() *afternoon {
			a := start()
			load := a.figures()
			return a.files(5).event(KexecLoad, load).now(KexecExecute).boot()
		}, "cold complete", MakerUser, 5, nil},
		{"execute first", func() *afternoon {
			a := start()
			load := a.figures()
			return a.files(5).now(KexecExecute).event(KexecLoad, load).boot()
		}, "cold complete", MakerUser, 5, nil},
		{"nothing between", func() *afternoon { return start().now(KexecLoad).now(KexecExecute).boot() }, "cold complete", MakerKernel, 0, nil},
		{"execute alone, as after kexec_load(2)", func() *afternoon {
			a := start()
			f := a.figures()
			f.SegmentSize = 0
			return a.event(KexecExecute, f).boot()
		}, "cold complete", MakerKernel, 0, nil},
		{"loaded twice", func() *afternoon {
			return start().now(KexecLoad).files(2).now(KexecLoad).files(1).now(KexecExecute).boot()
		}, "cold complete", MakerKernel, 1, nil},
		{"first reboot failed, second complete", func() *afternoon {
			return start().now(KexecLoad).now(KexecExecute).files(2).now(KexecLoad).files(1).now(KexecExecute).boot()
		}, "cold complete", MakerKernel, 1, nil},
		{"records behind execute", func() *afternoon {
			return start().now(KexecLoad).now(KexecExecute).files(2).boot()
		}, "cold complete", MakerKernel, 0, nil},
		{"figures of nowhere", func() *afternoon {
			a := start()
			f := a.figures()
			f.ListSize += 100
			return a.now(KexecLoad).event(KexecExecute, Figures{65536, f.ListSize, 5, ""}).boot()
		}, "cold complete", MakerUser, 0, nil},

		{"no execute", func() *afternoon { return start().now(KexecLoad).files(2).boot() },
			"cold lost", MakerKernel, 0, &Loss{After: 6, Before: 7}},
		{"first reboot failed, second lost its execute", func() *afternoon {
			return start().now(KexecLoad).now(KexecExecute).files(2).now(KexecLoad).boot()
		}, "cold lost", MakerKernel, 0, &Loss{After: 8, Before: 9}},
		{"no room for execute", func() *afternoon {
			a := start()
			f := a.figures()
			f.SegmentSize = f.ListSize + 3*128 + 190
			return a.event(KexecLoad, f).files(3).boot()
		}, "cold truncated", MakerKernel, 0, &Loss{After: 7, Before: 8}},
		{"three gone between load and execute", func() *afternoon {
			return start().now(KexecLoad).files(5).now(KexecExecute).boot().drop(6, 9)
		}, "cold truncated", MakerKernel, 5, &Loss{After: 4, Before: 7, Records: 3, Bytes: 300}},
		{"two gone before load", func() *afternoon {
			return start().now(KexecLoad).files(1).now(KexecExecute).boot().drop(2, 4)
		}, "cold truncated", MakerUnknown, 1, &Loss{After: 0, Before: 4, Records: 2, Bytes: 200}},
		{"as many records and fewer bytes", func() *afternoon {
			return start().now(KexecLoad).files(5).now(KexecExecute).boot().change(7, "/f")
		}, "cold lost", MakerUser, 5, &Loss{After: 4, Before: 10, Bytes: 1}},
		{"as many records and fewer bytes before load", func() *afternoon {
			return start().now(KexecLoad).files(5).now(KexecExecute).boot().change(2, "/f")
		}, "cold lost", MakerUser, 5, &Loss{After: 0, Before: 10, Bytes: 1}},

		{"two reboots, the first without events", func() *afternoon {
			return start().boot().files(2).now(KexecLoad).now(KexecExecute).boot()
		}, "cold silent complete", MakerKernel, 0, nil},
		{"two reboots, records lost on the first", func() *afternoon {
			a := start().now(KexecLoad).files(5).now(KexecExecute).boot().drop(7, 9)
			return a.files(1).now(KexecLoad).now(KexecExecute).boot()
		}, "cold truncated complete", MakerKernel, 0, nil},
		{"oldest records deleted", func() *afternoon {
			return start().files(4).now(KexecLoad).files(2).now(KexecExecute).boot().drop(0, 5)
		}, "headless complete", MakerKernel, 2, nil},
		{"oldest records deleted, then two gone", func() *afternoon {
			return start().files(4).now(KexecLoad).files(4).now(KexecExecute).boot().drop(10, 12).drop(0, 5)
		}, "headless truncated", MakerKernel, 4, &Loss{After: 3, Before: 6, Records: 2, Bytes: 202}},
		{"oldest records deleted, load counted while another processor measured", func() *afternoon {
			a := start()
			f := a.figures() // the size is read before the count
			a.files(1)
			f.Count++
			return a.event(KexecLoad, f).files(2).now(KexecExecute).boot().drop(0, 2)
		}, "headless complete", MakerUser, 2, nil},
		{"another event by that name", func() *afternoon { return start().add(KexecLoad, "nothing that the kernel says").boot() },
			"cold silent", MakerUnknown, 0, nil},
	}
	for _, tt := range tests {
		a := tt.make()
		r := audit(t, a.list, nil)
		b := r.Boundaries[len(r.Boundaries)-1]
		if got := verdicts(r); got != tt.want || b.Maker != tt.maker || b.Between != tt.between {
			t.Errorf("%s: %q by %v, %d between; want %q by %v, %d", tt.name, got, b.Maker, b.Between, tt.want, tt.maker, tt.between)
		}
		if (b.Loss == nil) != (tt.loss == nil) || b.Loss != nil && *b.Loss != *tt.loss {
			t.Errorf("%s: loss %+v, want %+v", tt.name, b.Loss, tt.loss)
		}
		// With the value that the list leads to, all is proved, whatever events say.
		if r.Boundaries[0].Verdict == Cold {
			for _, banks := range [][]uint16{{imalog.AlgSHA1}, {imalog.AlgSHA256, imalog.AlgSHA512}} {
				r := audit(t, a.list, &AuditOptions{Want: replay(t, banks, a.list...)})
				all := "cold" + strings.Repeat(" complete", len(r.Boundaries)-1)
				if got := verdicts(r); r.Proof != Proved || got != all || r.Covered != len(a.list) {
					t.Errorf("%s, proved: %q, %v", tt.name, got, r.Proof)
				}
			}
		}
	}
}

// TestAuditMissingTwice: both reboots of a list came without the sender's
// kexec_execute.
func TestAuditMissingTwice(t *testing.T) {
	a := (&afternoon{t: t}).boot().files(3)
	execute := func() {
		f := a.figures()
		f.SegmentSize = 0
		a.event(KexecExecute, f).boot().files(2)
	}
	execute()
	execute()
	// The second kernel counts what it was given, which is one less.
	whole := slices.Clone(a.list)
	given := slices.Delete(slices.Clone(whole), 4, 5)
	f := Figures{ListSize: 24, Count: 7}
	for i := range 7 {
		f.ListSize += uint64(given[i].BinarySize())
	}
	rec, err := PredictExecute(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	truth := slices.Concat(whole[:8], []imalog.Record{rec}, whole[9:])
	want := replay(t, nil, truth...)
	r := audit(t, slices.Delete(given, 7, 8), &AuditOptions{Want: want})
	if r.Proof != ProvedWith || verdicts(r) != "cold lost lost" {
		t.Errorf("%s", r)
	}
	for i, record := range []int{4, 8} {
		if m := r.Boundaries[i+1].Missing; m == nil || !sameRecord(m, &truth[record]) {
			t.Errorf("boundary %d: missing %v", i+1, m)
		}
	}
}

// TestAuditDisproved: a list that is broken in a place that nobody can name.
func TestAuditDisproved(t *testing.T) {
	a := (&afternoon{t: t}).boot().files(3).boot().files(3).boot()
	want := replay(t, nil, a.list...)
	r := audit(t, slices.Delete(slices.Clone(a.list), 5, 6), &AuditOptions{Want: want})
	if r.Proof != Disproved || verdicts(r) != "cold unproved unproved" {
		t.Errorf("%s", r)
	}
	// Where an event tells, that explains it, and the other boundary is left be.
	b := (&afternoon{t: t}).boot().files(3).boot().files(3).now(KexecLoad).files(1).now(KexecExecute).boot()
	want = replay(t, nil, b.list...)
	r = audit(t, slices.Delete(b.list, 6, 7), &AuditOptions{Want: want})
	if r.Proof != Disproved || verdicts(r) != "cold silent truncated" {
		t.Errorf("%s", r)
	}
}

func TestAuditOtherPCR(t *testing.T) {
	a := (&afternoon{t: t}).boot().files(2).now(KexecLoad).now(KexecExecute).boot()
	for i := range a.list {
		a.list[i].PCR = 11
	}
	if r := audit(t, a.list, nil); verdicts(r) != "cold silent" {
		t.Errorf("events of PCR 11 judged for PCR 10:\n%s", r)
	}
	opts := &AuditOptions{Replay: &imalog.ReplayOptions{PCR: 11}}
	if r := audit(t, a.list, opts); verdicts(r) != "cold complete" || r.PCR != 11 {
		t.Errorf("PCR 11:\n%s", r)
	}
}

// TestAuditUncountedNames: the kernel counts no bytes for the name of a template
// that has none, so figures may be smaller than what the list shows.
func TestAuditUncountedNames(t *testing.T) {
	a := (&afternoon{t: t}).boot().files(3)
	a.list[2].Template = "d-ng|n-ng|buf"
	f := a.figures()
	f.ListSize -= uint64(len("d-ng|n-ng|buf"))
	r := audit(t, a.event(KexecExecute, f).boot().list, nil)
	if verdicts(r) != "cold complete" || r.Boundaries[1].Maker != MakerKernel {
		t.Errorf("%s", r)
	}
}

// TestAuditBanksOfList: the files with longer digests show more bytes than the
// kernel counts.
func TestAuditBanksOfList(t *testing.T) {
	b, err := os.ReadFile(mainline + "arrived/binary_runtime_measurements_sha256")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Audit(t.Context(), imalog.Records(b, &imalog.ReaderOptions{DigestSize: 32}), nil)
	if err != nil || r.Boundaries[1].Maker != MakerKernel || r.Bytes != 2555 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestReportText(t *testing.T) {
	tests := []struct{ dir, want string }{
		{"imakexec/mainline-kexec_file_load/arrived", `23 records in 2 boots; PCR 10 proves them
records 0-18: cold boot, Linux 7.2.13-imakexec
records 19-22: soft reboot, complete, Linux 7.2.13-imakexec
    kexec_load (record 13), 4 records, kexec_execute (record 18), made by the kernel
`},
		{"handover/7.2-imakexec-7.2-cloud/arrived", `55 records in 2 boots; PCR 10 proves them, and what is missing
records 0-50: cold boot, Linux 7.2.13-imakexec
records 51-54: soft reboot, records lost, Linux 7.2.13+deb14-cloud-amd64
    1 record missing between records 50 and 51, 189 bytes
    what is missing is the kexec_execute of the sender's kernel
`},
		{"inject/6.12-cloud-tpm0/arrived", `17 records in 2 boots; PCR 10 proves them
records 0-12: cold boot, Linux 6.12.95+deb12-cloud-amd64
records 13-16: soft reboot, complete, Linux 6.12.95+deb12-cloud-amd64
    kexec_load (record 12), no kexec_execute, made by user space
`},
		{"late-records/6.12-cloud/arrived", `50 records in 2 boots; they do not lead to the value of PCR 10
records 0-46: cold boot
records 47-49: soft reboot, records lost
    records missing between records 46 and 47, or some before them changed
`},
		{"imakexec/mainline-kexec_file_load/afterload", `18 records in 1 boot; PCR 10 proves them
records 0-17: cold boot, Linux 7.2.13-imakexec
a handover has begun: kexec_load (record 13)
`},
	}
	for _, tt := range tests {
		r := audit(t, readCapture(t, tt.dir), &AuditOptions{Want: readPCR(t, captures+tt.dir)})
		if got := r.String(); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.dir, got, tt.want)
		}
	}
}

func TestReportJSON(t *testing.T) {
	const dir = "imakexec/mainline-kexec_file_load/arrived"
	r := audit(t, readCapture(t, dir), &AuditOptions{Want: readPCR(t, captures+dir)})
	got, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "records": 23,
 "bytes": 2555,
 "pcr": 10,
 "proof": "proved",
 "covered": 23,
 "boundaries": [
  {
   "record": 0,
   "kernel": "7.2.13-imakexec",
   "verdict": "cold",
   "maker": "unknown",
   "between": 0
  },
  {
   "record": 19,
   "kernel": "7.2.13-imakexec",
   "verdict": "complete",
   "kexec_load": {
    "record": 13,
    "name": "kexec_load",
    "figures": {
     "segment_size": 4096,
     "list_size": 1355,
     "count": 13
    },
    "maker": "kernel"
   },
   "kexec_execute": {
    "record": 18,
    "name": "kexec_execute",
    "figures": {
     "segment_size": 4096,
     "list_size": 1968,
     "count": 18
    },
    "maker": "kernel"
   },
   "maker": "kernel",
   "between": 4
  }
 ]
}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
}

// TestAuditError gives back what is wrong with the list.
func TestAuditError(t *testing.T) {
	b, err := os.ReadFile(mainline + "arrived/binary_runtime_measurements")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Audit(t.Context(), imalog.Records(b[:len(b)-1], nil), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "events: audit: ") {
		t.Errorf("a list cut short: %v", err)
	}
}

// A report that one program wrote is read by another.
func TestNamesRoundTrip(t *testing.T) {
	for v := Cold; v <= Unproved; v++ {
		b, _ := v.MarshalText()
		var got Verdict
		if err := got.UnmarshalText(b); err != nil || got != v {
			t.Errorf("%s comes back as %v (%v)", b, got, err)
		}
	}
	for p := NoProof; p <= ProvedWith; p++ {
		b, _ := p.MarshalText()
		var got Proof
		if err := got.UnmarshalText(b); err != nil || got != p {
			t.Errorf("%s comes back as %v (%v)", b, got, err)
		}
	}
	for m := MakerUnknown; m <= MakerUser; m++ {
		b, _ := m.MarshalText()
		var got Maker
		if err := got.UnmarshalText(b); err != nil || got != m {
			t.Errorf("%s comes back as %v (%v)", b, got, err)
		}
	}
	var v Verdict
	if err := v.UnmarshalText([]byte("nonsense")); err == nil {
		t.Error("nonsense is a verdict")
	}
}

// Figures that somebody made up are no base to count from.
func TestAuditImpossibleFigures(t *testing.T) {
	most := Figures{SegmentSize: 1, ListSize: 1<<64 - 1, Count: 1<<64 - 1}
	a := (&afternoon{t: t}).files(3).event(KexecLoad, most).event(KexecExecute, most).files(2).boot()
	r := audit(t, a.list, nil)
	last := r.Boundaries[len(r.Boundaries)-1]
	if last.Verdict != Truncated || last.Execute.Maker != MakerUnknown || last.Loss.Records != 1<<64-1-uint64(last.Execute.Record) {
		t.Errorf("%+v, %+v, %+v", last, last.Execute, last.Loss)
	}
}
