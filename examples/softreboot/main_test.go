package main

import (
	"context"
	"strings"
	"testing"
)

// The program judges its own story; the test looks at what it tells.
func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(context.Background(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	plain, soft, ok := strings.Cut(out.String(), "\n\n")
	if !ok {
		t.Fatalf("the account has no two halves:\n%s", out.String())
	}
	for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
		if !strings.Contains(line(plain, bank), "DOES NOT REPLAY") {
			t.Errorf("plain kexec, bank %s: %q", bank, line(plain, bank))
		}
		if l := line(soft, bank); !strings.HasSuffix(l, "  replays") {
			t.Errorf("imakexec, bank %s: %q", bank, l)
		}
	}
	for _, want := range []string{"lost: ", "in each bank after record 53: /usr/bin/systemctl"} {
		if !strings.Contains(plain, want) {
			t.Errorf("plain kexec: no %q in\n%s", want, plain)
		}
	}
	for _, want := range []string{"complete: ", "kexec_load is record 57, kexec_execute record 58; 3 records"} {
		if !strings.Contains(soft, want) {
			t.Errorf("imakexec: no %q in\n%s", want, soft)
		}
	}
}

func line(text, start string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(l), start+" ") {
			return strings.TrimRight(l, "\n")
		}
	}
	return ""
}
