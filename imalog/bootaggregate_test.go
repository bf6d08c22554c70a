package imalog

import (
	"errors"
	"strings"
	"testing"
)

func (c captured) pcrs(t testing.TB) PCRs {
	p, err := ParsePCRs(c.read(t, "pcrs.txt"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every boot_aggregate of every capture is recomputed from the PCRs: they do
// not change in a kexec.
func TestCapturedBootAggregates(t *testing.T) {
	count := map[uint16]int{}
	for _, c := range captures(t) {
		pcrs := c.pcrs(t)
		b, opts := c.binary(t, "sha1")
		for i, rec := range records(t, b, opts) {
			alg, n, err := CheckBootAggregate(&rec, pcrs, nil)
			if !rec.BootAggregate() {
				if err != ErrNoAggregate {
					t.Errorf("%s: record %d: %v", c.name(), i, err)
				}
				continue
			}
			want := uint32(10)
			if alg == AlgSHA1 {
				want = 8
			}
			if err != nil || n != want {
				t.Errorf("%s: record %d: %s of %d PCRs: %v", c.name(), i, AlgName(alg), n, err)
			}
			count[alg]++
		}
	}
	if count[AlgSHA1] == 0 || count[AlgSHA256] < 80 {
		t.Errorf("%v", count)
	}
}

func TestCheckBootAggregate(t *testing.T) {
	m := newMachine(t)
	pcrs := PCRs{}
	for i := range uint32(24) {
		pcrs[i] = Values{}
		for _, a := range algs {
			pcrs[i][a.id] = []byte(strings.Repeat(string(rune('a'+i)), a.size))
		}
	}
	aggregate := func(template, id, prefix string, alg uint16, n uint32) *Record {
		sum, err := BootAggregate(pcrs, alg, n, sm3Hashes()[alg])
		if err != nil {
			t.Fatal(err)
		}
		rec := m.record(template, prefix+string(sum), bootAggregate+"\x00")
		return &rec
	}
	for _, a := range algs {
		for _, n := range []uint32{8, 10} {
			rec := aggregate("ima-ng", "d-ng", a.name+":\x00", a.id, n)
			alg, got, err := CheckBootAggregate(rec, pcrs, sm3Hashes())
			if a.id == AlgSHA1 && n == 10 { // no kernel makes that
				if err != ErrAggregate {
					t.Errorf("sha1 of 10: %v", err)
				}
			} else if alg != a.id || got != n || err != nil {
				t.Errorf("%s of %d: %s of %d, %v", a.name, n, AlgName(alg), got, err)
			}
		}
	}
	v2 := aggregate("ima-ngv2", "d-ngv2", "ima:sha256:\x00", AlgSHA256, 10)
	if _, n, err := CheckBootAggregate(v2, pcrs, nil); n != 10 || err != nil {
		t.Errorf("ima-ngv2: %d, %v", n, err)
	}
	zeros := m.record("ima-ng", "sha256:\x00"+strings.Repeat("\x00", 32), bootAggregate+"\x00")
	changed := aggregate("ima-ng", "d-ng", "sha256:\x00", AlgSHA256, 10)
	changed.Data[20] ^= 1
	few := PCRs{0: pcrs[0]}
	seven := PCRs{}
	for i := range uint32(8) {
		seven[i] = pcrs[i]
	}
	for name, test := range map[string]struct {
		rec  *Record
		pcrs PCRs
		want error
	}{
		"zeros":              {&zeros, pcrs, ErrNoTPM},
		"changed":            {changed, pcrs, ErrAggregate},
		"changed, PCRs 0-7":  {changed, seven, ErrNoPCR},
		"one PCR":            {v2, few, ErrNoPCR},
		"SM3 without a hash": {aggregate("ima-ng", "d-ng", "sm3:\x00", AlgSM3_256, 10), pcrs, ErrAlg},
	} {
		if _, _, err := CheckBootAggregate(test.rec, test.pcrs, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
