// Replay prints what a measurement list yields in each PCR bank. It streams the
// list.
package main

import (
	"io"
	"os"

	"github.com/imakexec/imakexec/imalog"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		fail(err)
	}
	banks := []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}
	r := imalog.NewReplayer(&imalog.ReplayOptions{Banks: banks})
	list := imalog.NewReader(f, nil)
	for {
		rec, err := list.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = r.Add(rec)
		}
		if err != nil {
			fail(err)
		}
	}
	for _, alg := range banks {
		show(r.Value(alg))
	}
}

func show(sum []byte) {
	const digits = "0123456789abcdef"
	var b []byte
	for _, c := range sum {
		b = append(b, digits[c>>4], digits[c&15])
	}
	os.Stdout.Write(append(b, '\n'))
}

func fail(err error) {
	os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
