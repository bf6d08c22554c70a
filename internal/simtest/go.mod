module github.com/imakexec/imakexec/internal/simtest

go 1.24.0

require (
	github.com/google/go-tpm v0.9.8
	github.com/google/go-tpm-tools v0.4.9
	github.com/imakexec/imakexec v0.0.0
)

require golang.org/x/sys v0.41.0 // indirect

replace github.com/imakexec/imakexec => ../..
