package imalog

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
)

// AppendDigest appends the record's template digest in a bank's hash: over Data,
// or, for template "ima", over the digest and the name in it, the name padded
// with zeros to 256 bytes (security/integrity/ima/ima_crypto.c:
// ima_calc_field_array_hash_tfm). It is what the kernel extends into the bank,
// unless the record is a violation or the kernel lacks the hash: those are a
// Replayer's business.
//
// Its errors unwrap to ErrAlg, where the standard library lacks the hash, and
// ErrFields, for data that template "ima" cannot have.
func (r *Record) AppendDigest(b []byte, alg uint16) ([]byte, error) {
	var buf [imaDigestInput]byte
	data, err := r.digestInput(&buf)
	if err != nil {
		return b, err
	}
	var sum [maxDigest]byte
	n := sumInto(sum[:], alg, data)
	if n == 0 {
		return b, &AlgError{alg}
	}
	return append(b, sum[:n]...), nil
}

// sumInto writes the digest of data to the start of dst, which has room for it and
// may be data's own memory, and returns its size; 0 where the standard library
// lacks the hash.
func sumInto(dst []byte, alg uint16, data []byte) int {
	switch alg {
	case AlgSHA1:
		*(*[sha1.Size]byte)(dst) = sha1.Sum(data)
		return sha1.Size
	case AlgSHA256:
		*(*[sha256.Size]byte)(dst) = sha256.Sum256(data)
		return sha256.Size
	case AlgSHA384:
		*(*[sha512.Size384]byte)(dst) = sha512.Sum384(data)
		return sha512.Size384
	case AlgSHA512:
		*(*[sha512.Size]byte)(dst) = sha512.Sum512(data)
		return sha512.Size
	}
	return 0
}

// imaDigestInput is what the digest of template "ima" covers: a SHA-1 digest and
// a name padded to 256 bytes.
const imaDigestInput = 20 + 256

// digestInput returns what the template digest covers. It is Data itself but for
// template "ima", for which it is built in buf.
func (r *Record) digestInput(buf *[imaDigestInput]byte) ([]byte, error) {
	if r.Template != templateIMA {
		return r.Data, nil
	}
	n := 0
	for f, err := range r.Fields() {
		if err != nil {
			return nil, err
		}
		if len(f.Data) > len(buf)-n {
			return nil, malformed(f.ID())
		}
		n += copy(buf[n:], f.Data)
	}
	clear(buf[n:])
	return buf[:], nil
}

// An AlgError names a hash algorithm that is not available. It unwraps to
// ErrAlg.
type AlgError struct{ Alg uint16 }

func (e *AlgError) Error() string {
	name := AlgName(e.Alg)
	if name == "" {
		name = "0x" + string(appendHex(nil, []byte{byte(e.Alg >> 8), byte(e.Alg)}))
	}
	return "hash algorithm " + name + " is not available: give its constructor in ReplayOptions.Hashes"
}

func (e *AlgError) Unwrap() error { return ErrAlg }
