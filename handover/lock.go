package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// lockPrefix and the boot id name the file that is locked by who seals: two at once
// would each load an image without the events of the other. It holds that process's
// number, for the error, and stays; the lock ends with the process.
const lockPrefix = "sealing-"

// errLocked is tryLock's error where another has the lock.
var errLocked = errors.New("locked")

// lock is held from the beginning of a Seal until it fails or the Handover is closed.
func lock(dir, boot string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockPrefix+boot), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("%w: process %s", ErrBusy, pid)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
