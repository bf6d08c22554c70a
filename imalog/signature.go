package imalog

import "encoding/binary"

// SignatureType tells what a signature covers
// (security/integrity/integrity.h: enum evm_ima_xattr_type).
type SignatureType uint8

const (
	SignatureIMA    SignatureType = 3 // EVM_IMA_XATTR_DIGSIG: the file's digest
	SignatureEVM    SignatureType = 5 // EVM_XATTR_PORTABLE_DIGSIG: the file's metadata
	SignatureVerity SignatureType = 6 // IMA_VERITY_DIGSIG: the file's fs-verity digest
)

func (t SignatureType) String() string {
	switch t {
	case SignatureIMA:
		return "ima"
	case SignatureEVM:
		return "evm"
	case SignatureVerity:
		return "verity"
	}
	return "unknown"
}

// A Signature is what the fields sig and evmsig, and the extended attributes
// security.ima and security.evm, hold of one (security/integrity/integrity.h:
// struct signature_v2_hdr). It is not checked here.
type Signature struct {
	Type    SignatureType
	Version uint8  // 2, or 3 where the signature covers the type and the algorithm too
	HashAlg uint8  // HashName has the name
	KeyID   uint32 // last four bytes of the key's subject key identifier
	Sig     []byte // aliases what was decoded
}

const signatureHeader = 9

// Signature decodes a field sig or evmsig. An empty one is a zero Signature: the
// file had none. The error unwraps to ErrFields for what is no signature of
// version 2 or 3, such as one of the oldest version.
func (f Field) Signature() (Signature, error) {
	if f.Kind() != KindSignature {
		return Signature{}, malformed(f.ID())
	}
	if len(f.Data) == 0 {
		return Signature{}, nil
	}
	s, ok := ParseSignature(f.Data)
	if !ok {
		return Signature{}, malformed(f.ID())
	}
	return s, nil
}

// ParseSignature decodes the value of an extended attribute security.ima or
// security.evm; it reports false for one that is no signature of version 2 or 3,
// but a digest, an HMAC, or of the oldest version.
func ParseSignature(b []byte) (Signature, bool) {
	if len(b) < signatureHeader {
		return Signature{}, false
	}
	s := Signature{
		Type:    SignatureType(b[0]),
		Version: b[1],
		HashAlg: b[2],
		KeyID:   binary.BigEndian.Uint32(b[3:]),
		Sig:     b[signatureHeader:],
	}
	switch {
	case s.Type != SignatureIMA && s.Type != SignatureEVM && s.Type != SignatureVerity,
		s.Version != 2 && s.Version != 3,
		int(binary.BigEndian.Uint16(b[7:])) != len(s.Sig):
		return Signature{}, false
	}
	return s, true
}

// Append appends the signature as an extended attribute has it: the reverse of
// ParseSignature, for a Sig of at most 65535 bytes.
func (s Signature) Append(b []byte) []byte {
	b = append(b, byte(s.Type), s.Version, s.HashAlg)
	b = binary.BigEndian.AppendUint32(b, s.KeyID)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Sig)))
	return append(b, s.Sig...)
}

// hashNames are the kernel's names of hash algorithms by the numbers that
// signatures use (include/uapi/linux/hash_info.h: enum hash_algo).
var hashNames = [...]string{
	"md4", "md5", "sha1", "rmd160", "sha256", "sha384", "sha512", "sha224",
	"rmd128", "rmd256", "rmd320", "wp256", "wp384", "wp512", "tgr128", "tgr160",
	"tgr192", "sm3", "streebog256", "streebog512", "sha3-256", "sha3-384", "sha3-512",
}

// HashName returns the kernel's name of the hash algorithm that a signature
// names by its number, "" for one it does not know.
func HashName(alg uint8) string {
	if int(alg) < len(hashNames) {
		return hashNames[alg]
	}
	return ""
}
