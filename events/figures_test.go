package events

import (
	"errors"
	"math"
	"testing"
)

func TestFigures(t *testing.T) {
	tests := []struct {
		name, payload string
		want          Figures
		again         string // how it comes out; "": as it went in
	}{
		{"the kernel's", "kexec_segment_size=4096;ima_binary_runtime_size=1355;ima_runtime_measurements_count=13;",
			Figures{4096, 1355, 13, ""}, ""},
		{"largest", "kexec_segment_size=18446744073709551615;ima_binary_runtime_size=18446744073709551615;ima_runtime_measurements_count=18446744073709551615;",
			Figures{math.MaxUint64, math.MaxUint64, math.MaxUint64, ""}, ""},
		{"newer fields behind", "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;staged=4;note=a=b;",
			Figures{1, 2, 3, "staged=4;note=a=b;"}, ""},
		{"newer fields between", "version=2;kexec_segment_size=1;x=;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;",
			Figures{1, 2, 3, "version=2;x=;"}, "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;version=2;x=;"},
		{"another order", "ima_runtime_measurements_count=3;ima_binary_runtime_size=2;kexec_segment_size=1;",
			Figures{1, 2, 3, ""}, "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;"},
	}
	for _, tt := range tests {
		got, err := ParseFigures([]byte(tt.payload))
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
		again, err := got.AppendText([]byte("x"))
		if tt.again == "" {
			tt.again = tt.payload
		}
		if err != nil || string(again) != "x"+tt.again {
			t.Errorf("%s: comes out as %q, %v", tt.name, again, err)
		}
	}
}

func TestFiguresErrors(t *testing.T) {
	for name, payload := range map[string]string{
		"empty":            "",
		"one field":        "kexec_segment_size=4096;",
		"no end":           "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3",
		"NUL at the end":   "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;\x00",
		"NUL in a field":   "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;a=\x00;",
		"doubled":          "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;kexec_segment_size=1;",
		"negative":         "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=-1;",
		"signed":           "kexec_segment_size=+1;ima_binary_runtime_size=2;ima_runtime_measurements_count=1;",
		"hexadecimal":      "kexec_segment_size=0x1;ima_binary_runtime_size=2;ima_runtime_measurements_count=1;",
		"no number":        "kexec_segment_size=;ima_binary_runtime_size=2;ima_runtime_measurements_count=1;",
		"too large":        "kexec_segment_size=18446744073709551616;ima_binary_runtime_size=2;ima_runtime_measurements_count=1;",
		"blank":            "kexec_segment_size= 1;ima_binary_runtime_size=2;ima_runtime_measurements_count=1;",
		"field has no '='": "kexec_segment_size=1;ima_binary_runtime_size=2;ima_runtime_measurements_count=3;x;",
		"another event":    "7.2.13-imakexec",
	} {
		if f, err := ParseFigures([]byte(payload)); !errors.Is(err, ErrFigures) || f != (Figures{}) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for _, extra := range []string{"x", "x;", "=1;", "a=1;b"} {
		if b, err := (Figures{Extra: extra}).AppendText(nil); !errors.Is(err, ErrFigures) || len(b) != 0 {
			t.Errorf("extra %q: %q, %v", extra, b, err)
		}
	}
}

func FuzzFigures(f *testing.F) {
	for _, s := range []string{
		"kexec_segment_size=4096;ima_binary_runtime_size=1355;ima_runtime_measurements_count=13;",
		"kexec_segment_size=4096;ima_binary_runtime_size=1968;ima_runtime_measurements_count=18;",
		"kexec_segment_size=65536;ima_binary_runtime_size=4242;ima_runtime_measurements_count=12;staged=1;",
		"initialized=1;enforcing=0;checkreqprot=1;",
		"kexec_segment_size=1;;", ";", "=",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseFigures(b)
		if err != nil {
			if !errors.Is(err, ErrFigures) {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		again, err := got.AppendText(nil)
		if err != nil {
			t.Fatalf("%q: read as %+v, which does not come out: %v", b, got, err)
		}
		if back, err := ParseFigures(again); err != nil || back != got {
			t.Fatalf("%q: %+v, then %+v, %v", b, got, back, err)
		}
	})
}
