package main

import (
	"bytes"

	"github.com/imakexec/imakexec/imalog"
)

// wrongDigest reports whether the listed template digest is not that of the
// template data, in the hash alg, or if that is 0 in the one that has the size. A
// hash that is not available is not checked.
func wrongDigest(rec *imalog.Record, alg uint16) bool {
	if rec.Violation() {
		return false
	}
	if alg == 0 {
		alg = algOfSize(len(rec.Digest))
	}
	var buf [64]byte
	sum, err := rec.AppendDigest(buf[:0], alg)
	return err == nil && !bytes.Equal(sum, rec.Digest)
}

// digestsOf names the bank of a record's template digest.
func digestsOf(rec *imalog.Record, alg uint16) string {
	if alg == 0 {
		alg = algOfSize(len(rec.Digest))
	}
	return imalog.AlgName(alg)
}

// algOfSize returns the bank whose digests have the size, 0 if there is none. SM3,
// which has that of SHA-256, must be named.
func algOfSize(size int) uint16 {
	for _, alg := range []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512} {
		if imalog.AlgSize(alg) == size {
			return alg
		}
	}
	return 0
}
