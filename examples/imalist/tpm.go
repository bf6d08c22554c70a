package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

const (
	sysfsTPM  = "sys/class/tpm/tpm0"
	tpmDevice = "/dev/tpmrm0"
)

// A source gives the values of PCRs: of one, and of the others that happen to come
// with it.
type source struct {
	stdin   io.Reader
	root    fs.FS                                          // at "/"
	openTPM func(path string) (transport.TPMCloser, error) // the TPM behind a device
	pcr     uint32
}

// all reads several values of -verify, which must not contradict each other.
func (s *source) all(ctx context.Context, specs []string) (imalog.PCRs, error) {
	all := imalog.PCRs{}
	for _, spec := range specs {
		some, err := s.one(ctx, spec)
		if err != nil {
			return nil, err
		}
		if len(some[s.pcr]) == 0 {
			return nil, fmt.Errorf("%s: no value of PCR %d", spec, s.pcr)
		}
		for _, index := range slices.Sorted(maps.Keys(some)) {
			for _, alg := range slices.Sorted(maps.Keys(some[index])) {
				if imalog.AlgSize(alg) == 0 {
					continue // a bank of the TPM that imalog does not know
				}
				if all[index] == nil {
					all[index] = imalog.Values{}
				}
				value := some[index][alg]
				if old := all[index][alg]; old != nil && !bytes.Equal(old, value) {
					return nil, fmt.Errorf("%s: PCR %d has another value in %s", spec, index, imalog.AlgName(alg))
				}
				all[index][alg] = value
			}
		}
	}
	return all, nil
}

// one reads what a value of -verify stands for.
func (s *source) one(ctx context.Context, spec string) (imalog.PCRs, error) {
	if spec == "tpm" {
		all, err := s.sysfs(s.root)
		if errors.Is(err, events.ErrNoPCRFiles) {
			return s.device(ctx, tpmDevice)
		}
		return all, err
	}
	var alg uint16
	name := spec
	if bank, rest, ok := strings.Cut(spec, ","); ok {
		if a, known := imalog.AlgByName(bank); known {
			alg, name = a, rest
		}
	}
	if name == "-" {
		return s.text("standard input", s.stdin, alg)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		all, err := s.sysfs(under{sysfsTPM, os.DirFS(name)})
		if errors.Is(err, events.ErrNoPCRFiles) {
			return nil, fmt.Errorf("%s: no folders pcr-<bank> with values in this folder", name)
		}
		return all, err
	}
	if info.Mode()&fs.ModeCharDevice != 0 {
		return s.device(ctx, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// A file of sysfs says by its name what it holds.
	dir, base := filepath.Split(name)
	if bank, ok := strings.CutPrefix(filepath.Base(dir), "pcr-"); ok {
		if a, known := imalog.AlgByName(bank); known && alg == 0 {
			alg = a
		}
		if index, err := strconv.ParseUint(base, 10, 32); err == nil && uint32(index) != s.pcr {
			return nil, fmt.Errorf("%s is PCR %d, not PCR %d", name, index, s.pcr)
		}
	}
	return s.text(name, f, alg)
}

// text reads values from a file.
func (s *source) text(name string, r io.Reader, alg uint16) (imalog.PCRs, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, &readError{name: name, err: err}
	}
	found, err := imalog.ParsePCRs(b, alg, s.pcr)
	if err != nil {
		return nil, &readError{name: name, err: err}
	}
	return found, nil
}

func (s *source) device(ctx context.Context, path string) (imalog.PCRs, error) {
	tpm, err := s.openTPM(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer tpm.Close()
	return s.beside(func(pcr uint32) (imalog.Values, error) { return events.TPMValues(ctx, tpm, pcr) })
}

func (s *source) sysfs(root fs.FS) (imalog.PCRs, error) {
	return s.beside(func(pcr uint32) (imalog.Values, error) { return events.SysfsValues(root, pcr) })
}

// beside reads the PCR in question and those of which boot_aggregate is made, as far
// as these can be read.
func (s *source) beside(read func(pcr uint32) (imalog.Values, error)) (imalog.PCRs, error) {
	v, err := read(s.pcr)
	if err != nil {
		return nil, err
	}
	all := imalog.PCRs{s.pcr: v}
	for pcr := range uint32(10) {
		if _, known := all[pcr]; known {
			continue
		}
		if v, err := read(pcr); err == nil {
			all[pcr] = v
		}
	}
	return all, nil
}
