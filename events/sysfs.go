package events

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

// Why SysfsValues has no values.
var (
	ErrNoTPM      = errors.New("there is no TPM")
	ErrNoPCRFiles = errors.New("the kernel shows no PCRs of this TPM in sysfs (before Linux 5.12, or a TPM 1.2): read them through /dev/tpmrm0")
	ErrUnsteady   = errors.New("the PCR changes faster than its banks can be read")
)

const sysfsTPM = "sys/class/tpm/tpm0"

// readAttempts bounds how often a PCR is read until all its banks belong to one
// moment.
const readAttempts = 16

// SysfsValues reads a PCR of every allocated bank from sysfs, which needs no
// privilege and no access to the TPM's device; fsys is rooted at "/". The files
// are sys/class/tpm/tpm0/pcr-<alg>/<n>
// (drivers/char/tpm/tpm-sysfs.c: pcr_value_show). A bank whose name the library
// does not know is left out.
//
// Each file is a reading of its own, so all are read until twice the same comes
// back: the values belong to one moment. Errors: ErrNoTPM, ErrNoPCRFiles,
// ErrUnsteady, or that of a file.
func SysfsValues(fsys fs.FS, pcr uint32) (imalog.Values, error) {
	if _, err := fs.Stat(fsys, sysfsTPM); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("events: %w: no /%s", ErrNoTPM, sysfsTPM)
		}
		return nil, fmt.Errorf("events: %w", err)
	}
	last, err := sysfsValues(fsys, pcr)
	for range readAttempts {
		if err != nil {
			return nil, err
		}
		var again imalog.Values
		if again, err = sysfsValues(fsys, pcr); err == nil && again.Equal(last) {
			return last, nil
		}
		last = again
	}
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("events: PCR %d: %w", pcr, ErrUnsteady)
}

func sysfsValues(fsys fs.FS, pcr uint32) (imalog.Values, error) {
	dirs, err := fs.ReadDir(fsys, sysfsTPM)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	values := imalog.Values{}
	for _, d := range dirs {
		name, ok := strings.CutPrefix(d.Name(), "pcr-")
		if !ok {
			continue
		}
		alg, ok := imalog.AlgByName(name)
		if !ok {
			continue
		}
		file := path.Join(sysfsTPM, d.Name(), strconv.FormatUint(uint64(pcr), 10))
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
		v, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(v) != imalog.AlgSize(alg) {
			return nil, fmt.Errorf("events: /%s: %.40q is not a PCR of %s", file, text, name)
		}
		values[alg] = v
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("events: /%s: %w", sysfsTPM, ErrNoPCRFiles)
	}
	return values, nil
}
