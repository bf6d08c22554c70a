package main

import (
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

func openTPM(path string) (transport.TPMCloser, error) { return linuxtpm.Open(path) }
