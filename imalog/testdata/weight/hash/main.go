// Hash prints the digests of a file in the algorithms of PCR banks.
package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"io"
	"os"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		fail(err)
	}
	all := []hash.Hash{sha1.New(), sha256.New(), sha512.New384(), sha512.New()}
	var w []io.Writer
	for _, h := range all {
		w = append(w, h)
	}
	if _, err := io.Copy(io.MultiWriter(w...), f); err != nil {
		fail(err)
	}
	for _, h := range all {
		show(h.Sum(nil))
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
