package imalog

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
)

// Hash algorithms of PCR banks and digests, by TPM_ALG_ID (TPM 2.0 part 2,
// section 6.3). They are untyped by design: go-tpm's TPMIAlgHash converts.
const (
	AlgSHA1    uint16 = 0x0004
	AlgSHA256  uint16 = 0x000B
	AlgSHA384  uint16 = 0x000C
	AlgSHA512  uint16 = 0x000D
	AlgSM3_256 uint16 = 0x0012
)

var algs = [...]struct {
	id   uint16
	name string
	size int
}{
	{AlgSHA1, "sha1", sha1.Size},
	{AlgSHA256, "sha256", sha256.Size},
	{AlgSHA384, "sha384", sha512.Size384},
	{AlgSHA512, "sha512", sha512.Size},
	{AlgSM3_256, "sm3", 32},
}

// maxDigest is the size of the largest digest of a bank, in bytes.
const maxDigest = sha512.Size

// AlgName returns the kernel's name of a hash algorithm, as in the file names
// of securityfs and in d-ng fields (crypto/hash_info.c: hash_algo_name), or ""
// for an algorithm that no bank of an IMA list uses.
func AlgName(alg uint16) string {
	for i := range algs {
		if algs[i].id == alg {
			return algs[i].name
		}
	}
	return ""
}

// AlgByName is the reverse of AlgName. It also knows the TPM tools' name of SM3,
// sm3_256, and what older kernels call it, sm3-256.
func AlgByName(name string) (uint16, bool) {
	if name == "sm3_256" || name == "sm3-256" {
		return AlgSM3_256, true
	}
	for i := range algs {
		if algs[i].name == name {
			return algs[i].id, true
		}
	}
	return 0, false
}

// AlgSize returns the size of an algorithm's digest in bytes, 0 for one that
// AlgName does not know.
func AlgSize(alg uint16) int {
	for i := range algs {
		if algs[i].id == alg {
			return algs[i].size
		}
	}
	return 0
}

// algOfSize returns the algorithm that a template digest of so many bytes was
// most likely made with: SM3 has the size of SHA-256 and has to be named.
func algOfSize(n int) uint16 {
	for i := range algs {
		if algs[i].size == n {
			return algs[i].id
		}
	}
	return 0
}
