//go:build linux

package vmtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// vmsEnv says how many machines may run at a time, of all test binaries of this
// user together; 2 if unset.
const vmsEnv = "IMAKEXEC_VMS"

// takeSlot waits until one more machine may run. Closing the file gives the place
// back; so does the end of the process.
func takeSlot(ctx context.Context) (*os.File, error) {
	n := 2
	if s := os.Getenv(vmsEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			return nil, fmt.Errorf("vmtest: %s=%q: want a number of machines", vmsEnv, s)
		}
	}
	dir, err := cacheDir("slots")
	if err != nil {
		return nil, err
	}
	for {
		for i := range n {
			f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(i)), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				return nil, err
			}
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			if err == nil {
				return f, nil
			}
			f.Close()
			if err != syscall.EWOULDBLOCK {
				return nil, fmt.Errorf("vmtest: lock %s: %w", f.Name(), err)
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// cacheDir returns a folder of ours in the user's cache.
func cacheDir(name string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("vmtest: %w", err)
	}
	dir := filepath.Join(base, "imakexec", name)
	return dir, os.MkdirAll(dir, 0o755)
}
