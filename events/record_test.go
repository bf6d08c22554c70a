package events

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

const mainline = captures + "imakexec/mainline-kexec_file_load/"

// TestRecordEqualsKernels builds the records that Linux 7.2 measured around a
// real kexec from their figures alone.
func TestRecordEqualsKernels(t *testing.T) {
	want := map[string]Figures{
		KexecLoad:    {SegmentSize: 4096, ListSize: 1355, Count: 13},
		KexecExecute: {SegmentSize: 4096, ListSize: 1968, Count: 18},
	}
	found := 0
	for _, rec := range readList(t, mainline+"arrived") {
		figures, ok := want[rec.Name()]
		if !ok {
			continue
		}
		found++
		payload, err := figures.AppendText(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := rec.Buf(); !bytes.Equal(got, payload) {
			t.Errorf("%s: payload %q, the kernel's %q", rec.Name(), payload, got)
		}
		if parsed, err := ParseFigures(rec.Buf()); err != nil || parsed != figures {
			t.Errorf("%s: parsed %+v, %v", rec.Name(), parsed, err)
		}
		built, err := NewRecord(rec.Name(), payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := built.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		kernels, err := rec.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, kernels) {
			t.Errorf("%s:\nbuilt  %x\nkernel %x", rec.Name(), got, kernels)
		}
	}
	if found != 2 {
		t.Errorf("%d kexec records in the capture, want 2", found)
	}
}

func TestRecordAlgorithms(t *testing.T) {
	for alg, name := range map[uint16]string{
		imalog.AlgSHA1: "sha1", imalog.AlgSHA256: "sha256", imalog.AlgSHA384: "sha384", imalog.AlgSHA512: "sha512",
	} {
		rec, err := NewRecord("two words", []byte("payload"), &RecordOptions{PCR: 11, Alg: alg})
		if err != nil {
			t.Fatal(err)
		}
		h := newHash(alg)
		h.Write([]byte("payload"))
		field := h.Sum([]byte(name + ":\x00"))
		if !bytes.Equal(rec.Data[4:4+len(field)], field) || rec.Data[0] != byte(len(field)) {
			t.Errorf("%s: d-ng is %x", name, rec.Data[:4+len(field)])
		}
		if rec.Name() != "two_words" || string(rec.Buf()) != "payload" || rec.PCR != 11 {
			t.Errorf("%s: name %q, buf %q, PCR %d", name, rec.Name(), rec.Buf(), rec.PCR)
		}
	}
}

func TestRecordRefusals(t *testing.T) {
	tests := []struct {
		name, event string
		data        []byte
		opts        *RecordOptions
		want        error
	}{
		{"no name", "", []byte("x"), nil, ErrName},
		{"NUL in name", "a\x00b", []byte("x"), nil, ErrName},
		{"no data", "a", nil, nil, ErrNoData},
		{"data too long", "a", make([]byte, MaxDataSize+1), nil, ErrTooLong},
		{"name too long", strings.Repeat("a", MaxDataSize+1), []byte("x"), nil, ErrTooLong},
		{"SM3", "a", []byte("x"), &RecordOptions{Alg: imalog.AlgSM3_256}, ErrAlgorithm},
	}
	for _, tt := range tests {
		if rec, err := NewRecord(tt.event, tt.data, tt.opts); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, rec, err, tt.want)
		}
	}
	if _, err := NewRecord("a", make([]byte, MaxDataSize), nil); err != nil {
		t.Errorf("longest data: %v", err)
	}
}
