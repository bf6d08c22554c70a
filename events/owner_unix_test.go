//go:build unix

package events

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

// foreign is a file that belongs to another user.
type foreign struct{ fs.FileInfo }

func (foreign) Mode() fs.FileMode { return 0o600 }
func (foreign) Sys() any          { return &syscall.Stat_t{Uid: uint32(os.Geteuid()) + 1} }

func TestJournalOwner(t *testing.T) {
	if err := private("journal", foreign{}, 0o600); !errors.Is(err, ErrUnsafe) {
		t.Errorf("file of another user: %v", err)
	}
	info, err := os.Lstat("/") // which belongs to root everywhere
	if err != nil {
		t.Fatal(err)
	}
	if err := private("/", info, 0o777); err != nil {
		t.Errorf("file of root: %v", err)
	}
}
