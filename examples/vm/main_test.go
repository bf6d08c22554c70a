//go:build linux

package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/internal/testenv"
)

func TestRun(t *testing.T) {
	testenv.NeedFull(t, "boots virtual machines")
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		`(?m)^ +plain kexec +imakexec$`,
		`(?m)^files measured after the load +0 of 5 +5 of 5$`,
		`(?m)^attestation +FAILS +passes$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("it did not print %q:\n%s", want, &out)
		}
	}
}
