// Verify verifies a measurement list against the values of PCR 10, given in
// hexadecimal. It streams the list and prints what the kernel says of its memory.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		fail(err)
	}
	pcrs, err := imalog.ParsePCRs([]byte(strings.Join(os.Args[2:], "\n")), 0, imalog.DefaultPCR)
	if err != nil {
		fail(err)
	}
	res, err := imalog.Verify(context.Background(), imalog.Stream(f, -1, nil), pcrs[imalog.DefaultPCR], nil)
	if err != nil {
		fail(err)
	}
	for _, finding := range res.Findings {
		os.Stderr.WriteString(finding.String() + "\n")
	}
	if !res.Matched() {
		os.Exit(1)
	}
	status, _ := os.ReadFile("/proc/self/status")
	os.Stdout.Write(status)
}

func fail(err error) {
	os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
