package imalog

import "bytes"

// Values are the values of one PCR, by the algorithm of the bank (TPM_ALG_ID).
type Values map[uint16][]byte

// Clone returns a copy that shares nothing.
func (v Values) Clone() Values {
	if v == nil {
		return nil
	}
	c := make(Values, len(v))
	for alg, b := range v {
		c[alg] = bytes.Clone(b)
	}
	return c
}

// Equal reports whether both have the same banks with the same values.
func (v Values) Equal(w Values) bool {
	if len(v) != len(w) {
		return false
	}
	for alg, b := range v {
		if c, ok := w[alg]; !ok || !bytes.Equal(b, c) {
			return false
		}
	}
	return true
}
