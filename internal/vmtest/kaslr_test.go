//go:build linux

package vmtest

import (
	"flag"
	"regexp"
	"slices"
	"testing"
)

// kaslrFlag is how many handovers TestKASLR makes; "make soak" makes sixteen.
var kaslrFlag = flag.Int("kaslr", 4, "handovers under KASLR")

// The receiving kernel chooses where it unpacks itself, and does not avoid a buffer
// that no setup_data node covers: the smaller the machine, the more lists a bad layout
// loses. Ours must lose none. 512 MiB hold a Debian kernel and the two images that
// there are while one replaces the other.
func TestKASLR(t *testing.T) {
	n := *kaslrFlag
	res := Run(t, Config{
		Scenario: "pair",
		Kernels:  slices.Repeat([]string{"6.12"}, n+1),
		Memory:   512,
	})
	judgeChain(t, res, n+1)
	c := res.Capture("end")
	if regexp.MustCompile(`\bnokaslr\b`).Match(c["cmdline"]) {
		t.Error("KASLR was off")
	}
	t.Logf("%d of %d lists arrived", n, n)
}
