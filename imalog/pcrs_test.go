package imalog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The forms that programs print the same values in.
func TestParsePCRs(t *testing.T) {
	c := captured{"testdata/handover/7.2-cloud-6.1-cloud/arrived"}
	want := c.pcrs(t)
	file, err := ParsePCRs(c.read(t, "pcrs.sha256"), 0, 0)
	if err != nil || !bytes.Equal(file[10][AlgSHA256], want[10][AlgSHA256]) {
		t.Errorf("a captured file for evmctl: %v, %v", file[10], err)
	}
	if len(want) != 24 || len(want[10]) != 4 {
		t.Fatalf("%d PCRs in %d banks", len(want), len(want[10]))
	}
	var pcrread strings.Builder // tpm2_pcrread sha1:0,1,...
	for _, alg := range []uint16{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512} {
		fmt.Fprintf(&pcrread, "  %s:\n", AlgName(alg))
		var evmctl strings.Builder
		for i := range uint32(24) {
			fmt.Fprintf(&pcrread, "    %-2d: 0x%X\n", i, want[i][alg])
			fmt.Fprintf(&evmctl, "PCR-%02d: % X \n", i, want[i][alg])
			sysfs := strings.ToUpper(hex.EncodeToString(want[i][alg])) + "\n"
			got, err := ParsePCRs([]byte(sysfs), alg, i)
			if err != nil || len(got) != 1 || !bytes.Equal(got[i][alg], want[i][alg]) {
				t.Errorf("sysfs, %s %d: %v, %v", AlgName(alg), i, got, err)
			}
		}
		for _, hint := range []uint16{0, alg} {
			got, err := ParsePCRs([]byte(evmctl.String()), hint, 0)
			if err != nil || len(got) != 24 {
				t.Fatalf("evmctl: %d, %v", len(got), err)
			}
			for i := range uint32(24) {
				if len(got[i]) != 1 || !bytes.Equal(got[i][alg], want[i][alg]) {
					t.Errorf("evmctl: PCR %d: %v", i, got[i])
				}
			}
		}
	}
	got, err := ParsePCRs([]byte(pcrread.String()), 0, 0)
	if err != nil || len(got) != 24 {
		t.Fatal(len(got), err)
	}
	for i := range uint32(24) {
		if !got[i].Equal(want[i]) {
			t.Errorf("tpm2_pcrread: PCR %d: %v", i, got[i])
		}
	}
	sm3 := strings.Repeat("AB", 32)
	for text, alg := range map[string]uint16{sm3: AlgSM3_256, "sm3_256:\n 10 : 0x" + sm3: 0, "sm3:10 " + sm3: 0} {
		got, err := ParsePCRs([]byte(text), alg, 10)
		if err != nil || len(got[10][AlgSM3_256]) != 32 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestParsePCRsRefuses(t *testing.T) {
	sha1 := strings.Repeat("ab", 20)
	for _, text := range []string{
		"", "\n\n", "sha1:\n", "hello", "sha1:10 xyz", "sha1:10 abcd", "sha1:-1 " + sha1, "PCR-99999999999: " + sha1,
		"sha256:10 " + sha1, "sha1:10 " + sha1 + "\nsha1:10 " + sha1, "abc", "x: " + sha1, "10: abcdef",
	} {
		if got, err := ParsePCRs([]byte(text), 0, 10); !errors.Is(err, ErrPCRs) || got != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
