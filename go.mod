module github.com/imakexec/imakexec

go 1.24.0

require (
	github.com/google/go-tpm v0.9.8
	golang.org/x/sys v0.41.0
)
