package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lockFile names who seals: two at once would each load an image without the
// events of the other.
const lockFile = "sealing"

type sealer struct {
	BootID string `json:"boot_id"`
	process
}

// lock is held from the beginning of a Seal until it fails or the Handover is
// closed. One of another boot, or whose process has ended, is nobody's.
func lock(dir, boot string) (unlock func() error, err error) {
	me := self()
	text, err := json.Marshal(sealer{boot, me})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockFile)
	for range 2 {
		// A link appears with its content, or not at all.
		err := replaceFile(dir, fmt.Sprintf("%s.%d", lockFile, me.PID), text)
		if err != nil {
			return nil, err
		}
		mine := fmt.Sprintf("%s.%d", path, me.PID)
		err = os.Link(mine, path)
		os.Remove(mine)
		if err == nil {
			return func() error { return os.Remove(path) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		var owner sealer
		b, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(b, &owner) == nil && owner.BootID == boot && owner.alive() {
			return nil, fmt.Errorf("%w: process %d", ErrBusy, owner.PID)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, ErrBusy
}
