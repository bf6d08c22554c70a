package imalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func verify(t testing.TB, list iter.Seq2[Record, error], want Values, opts *ReplayOptions) *Result {
	t.Helper()
	res, err := Verify(context.Background(), list, want, opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// Where a kernel without SHA-384 and SHA-512 at IMA's start, 6.1, comes before
// or after one that has them.
func TestCapturedModesPerBoot(t *testing.T) {
	hashed, padded := []bool{false, false}, []bool{false, true}
	for _, test := range []struct {
		dir    string
		sha512 []bool
	}{
		{"handover/7.2-cloud-6.1-cloud/arrived", padded},
		{"handover/7.2-cloud-6.1-cloud/after", padded},
		{"handover/6.1-cloud-6.12-cloud/before", []bool{true}},
		{"handover/6.1-cloud-6.12-cloud/arrived", []bool{true, false}},
		{"handover/6.1-cloud-6.12-cloud/after", []bool{true, false}},
		{"handover/6.12-cloud-7.2-cloud/arrived", hashed},
	} {
		c := captured{"testdata/" + test.dir}
		b, opts := c.binary(t, "sha1")
		res := verify(t, Records(b, opts), c.pcr(t, 10), nil)
		if !res.Matched() || len(res.Banks) != 4 {
			t.Errorf("%s: %+v", test.dir, res.Banks)
		}
		for _, bank := range res.Banks {
			want := test.sha512
			if bank.Alg == AlgSHA1 || bank.Alg == AlgSHA256 {
				want = make([]bool, len(want))
			}
			if !slices.Equal(bank.Padded, want) {
				t.Errorf("%s: %s is padded %v, want %v", test.dir, AlgName(bank.Alg), bank.Padded, want)
			}
			if res.End.Padded(bank.Alg) != want[len(want)-1] {
				t.Errorf("%s: %s goes on padded %v", test.dir, AlgName(bank.Alg), res.End.Padded(bank.Alg))
			}
		}
	}
}

func TestVerifyManyBoots(t *testing.T) {
	const old, new = "6.1", "6.12"
	sequences := map[string]func(boot int) (kernel string, told bool){
		"never padded":               func(int) (string, bool) { return new, false },
		"always padded":              func(int) (string, bool) { return old, false },
		"one switch":                 func(b int) (string, bool) { return map[bool]string{true: old, false: new}[b < 23], false },
		"two switches":               func(b int) (string, bool) { return map[bool]string{true: old, false: new}[b > 11 && b < 31], false },
		"alternating, kernels named": func(b int) (string, bool) { return [...]string{old, new}[b%2], true },
		"in threes, kernels named":   func(b int) (string, bool) { return [...]string{new, new, old}[b%3], true },
	}
	for name, kernel := range sequences {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512)
			var padded []bool
			for b := range 50 {
				k, told := kernel(b)
				m.pad()
				if k == old {
					m.pad(AlgSHA384, AlgSHA512)
				}
				padded = append(padded, k == old)
				if !told {
					k = ""
				}
				m.boot(k)
				m.run(5)
				if b%7 == 3 {
					m.violation("/v")
				}
			}
			res := verify(t, all(m.list), m.banks, nil)
			if !res.Matched() || len(res.Boots) != 50 {
				t.Fatalf("%d boots, %+v", len(res.Boots), res.Banks)
			}
			if got := res.bank(AlgSHA384).Padded; !slices.Equal(got, padded) {
				t.Errorf("padded %v, want %v", got, padded)
			}
			// The state goes on as the last kernel does.
			m.run(3)
			for i := range m.list[res.Records:] {
				if err := res.End.Add(&m.list[res.Records+i]); err != nil {
					t.Fatal(err)
				}
			}
			if !res.End.Match(m.banks) {
				t.Error("the state at the end does not go on")
			}
		})
	}
}

// Fifty boots that alternate, with nothing to tell the kernels: 2^50 ways. The
// search gives up, and says that it found none.
func TestVerifyGivesUp(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA384)
	for b := range 50 {
		m.pad()
		if b%2 == 0 {
			m.pad(AlgSHA384)
		}
		m.boot("")
		m.run(1)
	}
	res := verify(t, all(m.list), m.banks, nil)
	if b := res.bank(AlgSHA384); b.Match || b.Prefix != -1 || !b.Checked {
		t.Errorf("%+v", b)
	}
	if !res.bank(AlgSHA1).Match {
		t.Error("SHA-1 does not match")
	}
}

func TestVerifyPrefix(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA256, AlgSHA512)
	m.pad(AlgSHA512)
	m.boot("")
	m.run(40)
	quotes := []Values{m.banks.Clone()}
	lengths := []int{len(m.list)}
	m.pad()
	m.boot("")
	m.run(7)
	quotes, lengths = append(quotes, m.banks.Clone()), append(lengths, len(m.list))
	m.run(100)
	quotes, lengths = append(quotes, m.banks.Clone()), append(lengths, len(m.list))
	quotes = append(quotes, Values{AlgSHA1: bytes.Repeat([]byte{7}, 20)})
	lengths = append(lengths, -1)

	results, err := VerifyEach(context.Background(), all(m.list), quotes, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range results {
		for _, b := range res.Banks {
			if b.Prefix != lengths[i] || b.Match != (lengths[i] == len(m.list)) {
				t.Errorf("quote %d, %s: prefix %d, match %v, want %d of %d", i, AlgName(b.Alg), b.Prefix, b.Match, lengths[i], len(m.list))
			}
		}
		one := verify(t, all(m.list), quotes[i], nil)
		if !reflect.DeepEqual(one.Banks, res.Banks) || !reflect.DeepEqual(one.Findings, res.Findings) {
			t.Errorf("quote %d: together %+v, alone %+v", i, res, one)
		}
	}
	if got := verify(t, all(m.list), Values{AlgSHA1: make([]byte, 20)}, nil).Banks[0].Prefix; got != 0 {
		t.Errorf("prefix %d for a PCR that was never extended", got)
	}
}

func TestVerifyOtherPCR(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA256)
	m.boot("")
	for range 3 {
		rec := m.file("/policy/says/11")
		rec.PCR = 11
		m.measure(rec)
		m.run(2)
	}
	rec := m.file("/last")
	rec.PCR = 11
	m.measure(rec)
	res := verify(t, all(m.list), m.banks, nil)
	if !res.Matched() || res.Records != len(m.list) || res.Banks[0].Prefix != len(m.list) {
		t.Errorf("%+v", res.Banks)
	}

	other := newMachine(t, AlgSHA1, AlgSHA256)
	for _, rec := range m.list {
		if rec.PCR == 11 {
			rec.PCR = DefaultPCR
			other.extend(rec)
		}
	}
	if res := verify(t, all(m.list), other.banks, &ReplayOptions{PCR: 11}); !res.Matched() {
		t.Errorf("PCR 11: %+v", res.Banks)
	}
}

// Data that can have no digest matters only where one is extended.
func TestReplayWithoutADigest(t *testing.T) {
	for _, rec := range []Record{
		{PCR: 11, Digest: bytes.Repeat([]byte{1}, 20), Template: templateIMA, Data: []byte("short")},
		{PCR: DefaultPCR, Digest: make([]byte, 20), Template: templateIMA, Data: []byte("short")},
	} {
		for _, at := range []int{0, 3} {
			m := newMachine(t, AlgSHA1, AlgSHA256)
			m.run(3)
			m.list = slices.Insert(m.list, at, rec)
			one := NewReplayer(nil)
			for i := range m.list {
				if err := one.Add(&m.list[i]); err != nil {
					t.Fatal(err)
				}
			}
			res := verify(t, all(m.list), one.Values(), nil)
			if !res.Matched() || res.Records != len(m.list) {
				t.Errorf("%v at %d: %+v", &rec, at, res.Banks)
			}
		}
	}
}

func TestVerifyFromStart(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA256)
	m.boot("")
	m.run(10)
	start, deleted := m.banks.Clone(), len(m.list)
	m.run(10)
	list := m.list[deleted:]
	if res := verify(t, all(list), m.banks, &ReplayOptions{Start: start}); !res.Matched() || len(res.Findings) != 0 {
		t.Errorf("%+v", res)
	}
	res := verify(t, all(list), m.banks, nil)
	if res.Matched() || !slices.ContainsFunc(res.Findings, func(f Finding) bool { return f.Kind == FindingTrimmed }) {
		t.Errorf("%+v", res.Findings)
	}
}

func TestVerifyBanks(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA256, AlgSM3_256)
	m.boot("")
	m.run(10)

	res := verify(t, all(m.list), m.banks, nil)
	if b := res.bank(AlgSM3_256); b.Checked || b.Match || res.Matched() {
		t.Errorf("SM3 without a hash: %+v", b)
	}
	if !res.bank(AlgSHA1).Match || !res.bank(AlgSHA256).Match {
		t.Error("the others do not match")
	}
	if res := verify(t, all(m.list), m.banks, &ReplayOptions{Hashes: sm3Hashes()}); !res.Matched() || len(res.Banks) != 3 {
		t.Errorf("SM3 with a hash: %+v", res.Banks)
	}
	// Only what is asked for is judged.
	if res := verify(t, all(m.list), m.banks, &ReplayOptions{Banks: []uint16{AlgSHA256}}); !res.Matched() || len(res.Banks) != 1 {
		t.Errorf("SHA-256 alone: %+v", res.Banks)
	}
	// A bank that want lacks is replayed and not judged.
	res = verify(t, all(m.list), Values{AlgSHA1: m.banks[AlgSHA1]}, &ReplayOptions{Banks: []uint16{AlgSHA1, AlgSHA256}})
	if !res.Matched() || len(res.Banks) != 1 || !bytes.Equal(res.End.Value(AlgSHA256), m.banks[AlgSHA256]) {
		t.Errorf("SHA-1 wanted: %+v", res.Banks)
	}
	short := &ReplayOptions{Start: Values{AlgSHA1: {1, 2}}}
	if res := verify(t, all(m.list), m.banks, short); res.bank(AlgSHA1).Checked || res.Matched() {
		t.Errorf("a start of two bytes: %+v", res.bank(AlgSHA1))
	}
	for name, want := range map[string]Values{"nothing": nil, "an unknown bank": {0x27: make([]byte, 32)}, "a short value": {AlgSHA1: {1, 2}}} {
		if verify(t, all(m.list), want, nil).Matched() {
			t.Errorf("%s is wanted and matches", name)
		}
	}
}

// The digests of a list with digests of 32 bytes are SHA-256 or SM3.
func TestVerifyListedDigests(t *testing.T) {
	m := newMachine(t, AlgSHA1)
	m.violation("/v") // tells nothing of the algorithm
	m.boot("")
	m.run(10)
	with := func(alg uint16) []Record {
		var list []Record
		for _, rec := range m.list {
			sum := m.sum(alg, rec.Data)
			if rec.Violation() {
				clear(sum)
			}
			rec.Digest = sum
			list = append(list, rec)
		}
		list[5].Digest[0] ^= 1
		return list
	}
	wrong := []Finding{{Kind: FindingDigest, Record: 5, Banks: []uint16{AlgSHA1}}}
	for name, test := range map[string]struct {
		list []Record
		opts ReplayOptions
		want []Finding
	}{
		"SHA-1":               {with(AlgSHA1), ReplayOptions{}, wrong},
		"SHA-256":             {with(AlgSHA256), ReplayOptions{}, wrong},
		"SHA-384":             {with(AlgSHA384), ReplayOptions{}, wrong},
		"SM3":                 {with(AlgSM3_256), ReplayOptions{Hashes: sm3Hashes()}, wrong},
		"SM3, named":          {with(AlgSM3_256), ReplayOptions{Hashes: sm3Hashes(), Listed: AlgSM3_256}, wrong},
		"SM3 without a hash":  {with(AlgSM3_256), ReplayOptions{}, nil},
		"SM3, named, no hash": {with(AlgSM3_256), ReplayOptions{Listed: AlgSM3_256}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			res := verify(t, all(test.list), m.banks, &test.opts)
			if !reflect.DeepEqual(res.Findings, test.want) {
				t.Errorf("%v, want %v", res.Findings, test.want)
			}
		})
	}
}

func TestVerifySM3Padded(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSM3_256)
	m.boot("")
	m.run(5)
	m.pad(AlgSM3_256)
	m.boot("")
	m.run(5)
	res := verify(t, all(m.list), m.banks, &ReplayOptions{Hashes: sm3Hashes()})
	if !res.Matched() || !slices.Equal(res.bank(AlgSM3_256).Padded, []bool{false, true}) {
		t.Errorf("%+v", res.Banks)
	}
}

func TestVerifyFindings(t *testing.T) {
	all4 := []uint16{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512}
	// The machine: two boots, the second kernel pads SHA-384 and SHA-512.
	base := func(t *testing.T) *machine {
		m := newMachine(t, all4...)
		m.boot("")
		m.run(20)
		m.violation("/v")
		m.pad(AlgSHA384, AlgSHA512)
		m.boot("")
		m.run(20)
		return m
	}
	tests := map[string]struct {
		change func(m *machine)
		want   []Finding // without Missing
		match  bool
	}{
		"nothing is wrong": {change: func(*machine) {}, match: true},
		"a digest was changed": {
			change: func(m *machine) { m.list[5].Digest[3] ^= 1 },
			want:   []Finding{{Kind: FindingDigest, Record: 5, Banks: all4}},
			match:  true,
		},
		"a digest was set to zeros": {
			change: func(m *machine) { clear(m.list[5].Digest) },
			want:   []Finding{{Kind: FindingDigest, Record: 5, Banks: all4}},
		},
		"data was changed": {
			change: func(m *machine) { m.list[30].Data[20] ^= 1 },
			want: []Finding{
				{Kind: FindingData, Record: 30, Banks: []uint16{AlgSHA1, AlgSHA384, AlgSHA512}},
			},
		},
		"data was changed while SHA-512 is hashed": {
			change: func(m *machine) { m.list[3].Data[20] ^= 1 },
			want: []Finding{
				{Kind: FindingData, Record: 3, Banks: []uint16{AlgSHA1}},
			},
		},
		"a record was never extended": {
			change: func(m *machine) { m.list = slices.Insert(m.list, 12, m.file("/journaled")) },
			want:   []Finding{{Kind: FindingExtra, Record: 12, Banks: all4}},
		},
		"the kernel's own kexec_execute is missing": {
			change: func(m *machine) {
				*m = *newMachine(m.t, all4...)
				m.boot("")
				m.run(4)
				m.measure(m.event(kexecLoad, "kexec_segment_size=8192;ima_binary_runtime_size=5;ima_runtime_measurements_count=5;"))
				m.run(4)
				size := HeaderSize
				for _, rec := range m.list {
					size += rec.BinarySize()
				}
				m.extend(m.event(kexecExecute, fmt.Sprintf(
					"kexec_segment_size=8192;ima_binary_runtime_size=%d;ima_runtime_measurements_count=%d;", size, len(m.list))))
				m.pad(AlgSHA512)
				m.boot("")
				m.run(4)
			},
			want: []Finding{{Kind: FindingMissing, Record: 10, Banks: all4}},
		},
		"records of a boundary are missing": {
			change: func(m *machine) {
				*m = *newMachine(m.t, all4...)
				m.boot("")
				m.run(4)
				m.extend(m.file("/late"))
				m.boot("")
				m.run(4)
			},
			want: []Finding{{Kind: FindingUnexplained, Banks: all4}, {Kind: FindingUnsealed, Record: 5}},
		},
		"records before kexec_execute are missing": {
			change: func(m *machine) {
				*m = *newMachine(m.t, all4...)
				m.boot("")
				m.run(4)
				m.extend(m.file("/late"))
				m.measure(m.event(kexecExecute, "kexec_segment_size=8192;ima_binary_runtime_size=500;ima_runtime_measurements_count=6;"))
				m.boot("")
			},
			want: []Finding{{Kind: FindingUnexplained, Banks: all4}, {Kind: FindingCount, Record: 5, Listed: 6, Found: 5}},
		},
		"the oldest records are missing": {
			change: func(m *machine) { m.list = m.list[3:] },
			want:   []Finding{{Kind: FindingTrimmed}, {Kind: FindingUnexplained, Banks: all4}, {Kind: FindingUnsealed, Record: 19}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := base(t)
			test.change(m)
			res := verify(t, all(m.list), m.banks, nil)
			if res.Matched() != test.match {
				t.Errorf("matched %v", res.Matched())
			}
			var got []Finding
			for _, f := range res.Findings {
				if f.Kind == FindingMissing && f.Missing.Name() != kexecExecute {
					t.Errorf("missing: %v", f.Missing)
				}
				f.Missing = nil
				got = append(got, f)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("found %v\nwant %v", got, test.want)
			}
			for _, f := range res.Findings {
				if s := f.String(); s == "" || strings.Contains(f.Kind.String(), "unknown") {
					t.Errorf("%+v: %q", f, s)
				}
			}
			for _, b := range res.Banks {
				explained := slices.ContainsFunc(test.want, func(f Finding) bool {
					return !test.match && f.Kind != FindingUnexplained && slices.Contains(f.Banks, b.Alg)
				})
				if b.Explained != explained {
					t.Errorf("%s: explained %v", AlgName(b.Alg), b.Explained)
				}
			}
		})
	}
}

// Every capture that does not replay is explained as far as its bytes allow.
func TestCapturedFindings(t *testing.T) {
	want := map[string][]string{
		"late-records/6.12-cloud/arrived":              {"unexplained 0", "unsealed 47"},
		"handover/7.2-imakexec-7.2-cloud/arrived":      {"missing 51"},
		"handover/7.2-imakexec-7.2-cloud/after":        {"missing 51"},
		"imakexec/6.1-snapshot-at-load/arrived":        {"unexplained 0", "unsealed 13"},
		"trim/7.2-cloud/trimmed":                       {"trimmed 0", "unexplained 0"},
		"arm64/no-memreserve/arrived":                  {"unexplained 0"},
		"arm64/stale-property/arrived-boot3":           {"unexplained 0"},
		"arm64/uefi-acpi-NOT-restored/arrived":         {"unexplained 0"},
		"arm64/uefi-acpi-NOT-restored/arrived-boot3":   {"unexplained 0"},
		"template-ima-unrestorable/6.12-cloud/arrived": {"unexplained 0"},
		// Damaged on purpose and restored all the same.
		"malformed/6.12-cloud-zerodigest/arrived": {"digest 8"},
	}
	for name := range notReplaying {
		if want[name] == nil {
			t.Errorf("%s: no explanation is expected", name)
		}
	}
	for _, c := range captures(t) {
		b, opts := c.binary(t, "sha1")
		if len(c.read(t, liveName+"_sha256_staged")) > 0 {
			b, opts = c.binary(t, "sha256")
		}
		res := verify(t, Records(b, opts), c.pcr(t, 10), nil)
		expect, ok := want[c.name()]
		if !ok && strings.HasPrefix(c.name(), "malformed/") {
			continue
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, fmt.Sprint(f.Kind, " ", f.Record))
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%s: %v, want %v", c.name(), got, expect)
		}
		for _, f := range res.Findings {
			if (f.Kind == FindingMissing || f.Kind == FindingDigest) && len(f.Banks) != len(res.Banks) {
				t.Errorf("%s: %v", c.name(), f)
			}
		}
	}
}

// What comes out does not depend on how many goroutines hash.
func TestWorkersGiveTheSame(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512)
	m.boot("")
	m.run(3000)
	m.violation("/v")
	m.measure(m.record("ima-buf", "sha256:\x00"+strings.Repeat("x", 32), "huge\x00", strings.Repeat("y", 3<<20)))
	m.run(3000)
	m.pad(AlgSHA384)
	m.boot("")
	m.run(2000)
	quote := m.banks.Clone()
	m.run(777)
	m.list[4000].Digest[0] ^= 1
	for _, want := range []Values{m.banks, quote} {
		var first *Result
		for _, workers := range []int{1, 2, 3, 8, 0} {
			opts := &ReplayOptions{Workers: workers}
			res := verify(t, all(m.list), want, opts)
			if first == nil {
				first = res
			}
			if !reflect.DeepEqual(res.Banks, first.Banks) || !reflect.DeepEqual(res.Findings, first.Findings) ||
				!reflect.DeepEqual(res.Boots, first.Boots) || !res.End.Values().Equal(first.End.Values()) {
				t.Errorf("%d workers: %+v, one: %+v", workers, res, first)
			}
		}
		if first.Banks[0].Prefix < 8000 || len(first.Findings) != 1 || first.Findings[0].Record != 4000 {
			t.Errorf("%+v", first)
		}
	}
	one := NewReplayer(nil)
	for i := range m.list {
		if err := one.Add(&m.list[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, workers := range []int{1, 2, 5} {
		r := NewReplayer(&ReplayOptions{Workers: workers})
		if err := r.AddAll(context.Background(), all(m.list)); err != nil {
			t.Fatal(err)
		}
		if !r.Values().Equal(one.Values()) || r.Count() != one.Count() {
			t.Errorf("AddAll with %d workers differs from Add", workers)
		}
	}
}

// A record that a sequence yields needs to be valid only until the next one.
func TestVerifyStream(t *testing.T) {
	m := newMachine(t, AlgSHA1, AlgSHA384)
	m.pad(AlgSHA384)
	m.boot("")
	m.run(5000)
	var b []byte
	for _, rec := range m.list {
		b, _ = rec.AppendBinary(b)
	}
	for _, workers := range []int{1, 4} {
		res := verify(t, Stream(bytes.NewReader(b), -1, nil), m.banks, &ReplayOptions{Workers: workers})
		if !res.Matched() || res.Records != len(m.list) {
			t.Errorf("%d workers: %+v", workers, res.Banks)
		}
	}
}

func TestVerifyStops(t *testing.T) {
	m := newMachine(t, AlgSHA1)
	m.boot("")
	m.run(5000)
	for _, workers := range []int{1, 3} {
		opts := &ReplayOptions{Workers: workers}
		ctx, cancel := context.WithCancel(context.Background())
		n := 0
		_, err := Verify(ctx, func(yield func(Record, error) bool) {
			for _, rec := range m.list {
				if n++; n == 2000 {
					cancel()
				}
				if !yield(rec, nil) {
					return
				}
			}
		}, m.banks, opts)
		if !errors.Is(err, context.Canceled) || n > 4000 {
			t.Errorf("%d workers: %v after %d records", workers, err, n)
		}

		if _, err := Verify(ctx, all(m.list[:1]), m.banks, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("%d workers: %v from the start", workers, err)
		}

		// An error of the list comes with what the records before it yield.
		var b []byte
		for _, rec := range m.list {
			b, _ = rec.AppendBinary(b)
		}
		res, err := Verify(context.Background(), Records(b[:len(b)-1], nil), m.banks, opts)
		var re *RecordError
		if !errors.As(err, &re) || !errors.Is(err, io.ErrUnexpectedEOF) || re.Record != len(m.list)-1 {
			t.Errorf("%d workers: %v", workers, err)
		}
		r := NewReplayer(nil)
		for i := range m.list[:len(m.list)-1] {
			r.Add(&m.list[i])
		}
		if res.Records != len(m.list)-1 || !bytes.Equal(res.Banks[0].Got, r.Value(AlgSHA1)) {
			t.Errorf("%d workers: %d records before the error", workers, res.Records)
		}
		bad := slices.Clone(m.list)
		bad[3000] = Record{PCR: 10, Digest: bytes.Repeat([]byte{1}, 20), Template: "ima", Data: []byte("short")}
		if _, err := Verify(context.Background(), all(bad), m.banks, opts); !errors.As(err, &re) || re.Record != 3000 || !errors.Is(err, ErrFields) {
			t.Errorf("%d workers: %v", workers, err)
		}
	}
}

// A list of nothing but boots of other kernels is searched within bounds, and the
// search ends when it is told to.
func TestManyBoots(t *testing.T) {
	m := newMachine(t)
	for i := range 20000 {
		m.list = append(m.list, m.file(bootAggregate), m.event(kernelVersion, fmt.Sprintf("6.12.%d", i)))
	}
	res, err := Verify(t.Context(), all(m.list), Values{AlgSHA1: bytes.Repeat([]byte{1}, 20)}, nil)
	if err != nil || res.Matched() || len(res.Boots) != 20000 {
		t.Fatalf("%v, %v", res, err)
	}
	got := sameKernel([]string{"a", "", "b", "a", "a", "b", ""})
	if want := []int{-1, -1, -1, 0, 3, 2, -1}; !slices.Equal(got, want) {
		t.Errorf("boots of the same kernel before: %v, want %v", got, want)
	}
}
