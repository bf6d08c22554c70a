//go:build !linux

package handover

import (
	"io/fs"
	"os"

	"github.com/imakexec/imakexec/kexecseg"
)

// Host returns the running machine. Only Linux has kexec: elsewhere its system
// calls answer kexecseg.ErrNotSupported.
func Host() System { return host{} }

type host struct{}

func (host) FS() fs.FS                  { return os.DirFS("/") }
func (host) Load(*kexecseg.Image) error { return kexecseg.ErrNotSupported }
func (host) Unload() error              { return kexecseg.ErrNotSupported }
func (host) Kexec() error               { return kexecseg.ErrNotSupported }
