package events

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// TestParseCapturedEvents reads what real kernels measured beside files.
func TestParseCapturedEvents(t *testing.T) {
	got := map[string]int{}
	for _, rec := range readCapture(t, "imakexec/mainline-kexec_file_load/after") {
		e, err := ParseEvent(&rec)
		if errors.Is(err, ErrNotEvent) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got[e.Label+"/"+e.Name]++
		if e.Name == KernelVersion && string(e.Data) != "7.2.13-imakexec" {
			t.Errorf("%s is %q", e.Name, e.Data)
		}
		// Built anew from what it says, it is the same record.
		again, err := e.Record(nil)
		if err != nil || !sameRecord(&again, &rec) {
			t.Errorf("%s comes out as %v, %v", e.Name, again, err)
		}
	}
	want := map[string]int{"kernel_info/kernel_version": 2, "ima_kexec/kexec_load": 1, "ima_kexec/kexec_execute": 1}
	if len(got) != len(want) {
		t.Errorf("events %v, want %v", got, want)
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%d of %s, want %d", got[name], name, n)
		}
	}
	// A list whose template for files is ima-buf, too, with nothing in buf.
	events := 0
	for _, rec := range readCapture(t, "lists/6.12-cloud/ima-buf-tcb") {
		if _, err := ParseEvent(&rec); err == nil {
			events++
		} else if !errors.Is(err, ErrNotEvent) {
			t.Error(err)
		}
	}
	if events != 1 {
		t.Errorf("%d events among files of template ima-buf, want kernel_version", events)
	}
}

// TestParseEventAsItIs: payloads of other subsystems are classified and kept.
func TestParseEventAsItIs(t *testing.T) {
	policy := sha256.Sum256([]byte("a policy"))
	tests := []struct {
		name  string
		data  string
		opts  *RecordOptions
		label string
		kept  string
	}{
		{"selinux-state", "initialized=1;enforcing=1;checkreqprot=0;network_peer_controls=1;", nil, LabelSELinux, ""},
		{"selinux-policy-hash", "a policy", &RecordOptions{Hashed: true}, LabelSELinux, string(policy[:])},
		{"dm_table_load", "dm_version=4.49.0;name=root,uuid=CRYPT-VERITY-1,major=253,minor=0;target_index=0;", nil, LabelDeviceMapper, ""},
		{"dm_device_resume", "x", nil, LabelDeviceMapper, ""},
		{"dm_device_remove", "x", nil, LabelDeviceMapper, ""},
		{"dm_table_clear", "x", nil, LabelDeviceMapper, ""},
		{"dm_device_rename", "x", nil, LabelDeviceMapper, ""},
		{"kernel_version", "6.12.95+deb12-cloud-amd64", nil, LabelKernel, ""},
		{"kexec-cmdline", "ro quiet", nil, "", ""},
		{".builtin_trusted_keys", "0\x82\x05\xb9", nil, "", ""},
		{"boot plan", "kernel=/boot/vmlinuz", nil, "", ""},
	}
	for _, tt := range tests {
		rec, err := NewRecord(tt.name, []byte(tt.data), tt.opts)
		if err != nil {
			t.Fatal(err)
		}
		if tt.kept == "" {
			tt.kept = tt.data
		}
		e, err := ParseEvent(&rec)
		if err != nil || e.Label != tt.label || string(e.Data) != tt.kept || e.Name != rec.Name() {
			t.Errorf("%s: %+v, %v; want label %q and %q", tt.name, e, err, tt.label, tt.kept)
		}
	}
}

func TestParseEventErrors(t *testing.T) {
	good := record(t, KexecLoad, "data")
	changed := good.Clone()
	changed.Data[len(changed.Data)-1] ^= 1
	e, err := ParseEvent(&changed)
	if !errors.Is(err, ErrDigest) || e.Name != KexecLoad || bytes.Equal(e.Data, []byte("data")) {
		t.Errorf("changed data: %+v, %v", e, err)
	}
	file := imalog.Record{PCR: 10, Template: "ima-ng", Data: good.Data}
	if _, err := ParseEvent(&file); !errors.Is(err, ErrNotEvent) {
		t.Errorf("a file: %v", err)
	}
}

func TestOwnEvent(t *testing.T) {
	own := Event{Label: "boot-plan", Name: "chosen kernel", Data: []byte("/boot/vmlinuz")}
	rec, err := own.Record(&RecordOptions{Alg: imalog.AlgSHA512})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseEvent(&rec)
	if err != nil || got.Name != "chosen_kernel" || !bytes.Equal(got.Data, own.Data) || got.Label != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, label := range []string{"", "a|b", "a b", "a\tb", "a\n", "a\x00"} {
		e := own
		e.Label = label
		if _, err := e.Record(nil); !errors.Is(err, ErrLabel) {
			t.Errorf("label %q: %v", label, err)
		}
	}
	for _, e := range []Event{{"l", "", []byte("x")}, {"l", "n", nil}} {
		if _, err := e.Record(nil); !errors.Is(err, ErrName) && !errors.Is(err, ErrNoData) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}
