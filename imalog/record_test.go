package imalog

import "testing"

// The kernel counts what it lists, but for names that are formats and for template ima.
func TestKernelSize(t *testing.T) {
	for template, more := range map[string]int{"ima-ng": 0, "ima-buf": 0, "d-ng|n-ng": -len("d-ng|n-ng"), "d|n": -3, "ima": 9} {
		rec := Record{Template: template, Digest: make([]byte, 20), Data: make([]byte, 50)}
		if got, want := rec.KernelSize(), rec.BinarySize()+more; got != want {
			t.Errorf("%s: %d, want %d", template, got, want)
		}
		rec.Digest = make([]byte, 32)
		if got, want := rec.KernelSize(), rec.BinarySize()+more-12; got != want {
			t.Errorf("%s, SHA-256 digests: %d, want %d", template, got, want)
		}
	}
}
