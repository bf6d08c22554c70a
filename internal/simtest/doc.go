// Package simtest holds the Measurer, and the test double of a TPM, against the
// reference implementation of TPM 2.0. It is a module of its own because the
// simulator is C: it needs cgo and OpenSSL's headers, which nothing that a
// bootloader links may need.
package simtest
