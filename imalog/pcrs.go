package imalog

import (
	"bytes"
	"errors"
	"strconv"
)

// PCRs are the values of a TPM's PCRs, by index.
type PCRs map[uint32]Values

// ErrPCRs means that a text does not hold values of PCRs in a form that
// ParsePCRs knows.
var ErrPCRs = errors.New("imalog: not the values of PCRs")

// ParsePCRs reads values of PCRs as programs and kernels print them, in any of
// these forms:
//
//	sha256:                              tpm2_pcrread
//	  10: 0x3D458CFE...
//	PCR-10: 3D 45 8C FE ...              evmctl --pcrs, and the kernel's device/pcrs
//	sha256:10 3d458cfe...                one line for each bank and index
//	3D458CFE...                          /sys/class/tpm/tpm0/pcr-sha256/10
//
// What a text leaves open, alg and pcr tell: the bank, and the index of a value
// that stands alone. With alg zero the bank is the one that the value's size
// tells, SM3 being taken for SHA-256. What stands under the heading of a bank that no
// IMA list has is left out. The error unwraps to ErrPCRs and names the
// line.
func ParsePCRs(text []byte, alg uint16, pcr uint32) (PCRs, error) {
	p := pcrParser{all: PCRs{}, alg: alg}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if err := p.line(bytes.TrimSpace(line), pcr); err != nil {
			return nil, &pcrError{n, err}
		}
	}
	if len(p.all) == 0 {
		return nil, &pcrError{n, errors.New("there is no value")}
	}
	return p.all, nil
}

type pcrError struct {
	line int
	err  error
}

func (e *pcrError) Error() string {
	return ErrPCRs.Error() + ": line " + strconv.Itoa(e.line) + ": " + e.err.Error()
}

func (e *pcrError) Unwrap() error { return ErrPCRs }

type pcrParser struct {
	all PCRs
	alg uint16 // of the values that follow; 0: by their size

	unknown bool // they are of a bank that no IMA list has
}

func (p *pcrParser) line(line []byte, pcr uint32) error {
	key, value, colon := bytes.Cut(line, []byte{':'})
	if !colon {
		if len(line) == 0 {
			return nil
		}
		return p.value(p.alg, pcr, line)
	}
	key, value = bytes.TrimSpace(key), bytes.TrimSpace(value)
	alg := p.alg
	index := bytes.TrimPrefix(key, []byte("PCR-"))
	if id, ok := AlgByName(string(key)); ok {
		if len(value) == 0 { // a heading
			p.alg, p.unknown = id, false
			return nil
		}
		alg = id
		index, value, _ = bytes.Cut(value, []byte{' '})
	}
	n, err := strconv.ParseUint(string(index), 10, 32)
	switch {
	case err != nil && len(value) == 0 && len(key) > 0:
		p.unknown = true
		return nil
	case err != nil:
		return errors.New("no index of a PCR")
	case p.unknown && alg == p.alg:
		return nil
	}
	return p.value(alg, uint32(n), value)
}

func (p *pcrParser) value(alg uint16, index uint32, text []byte) error {
	text = bytes.TrimPrefix(bytes.TrimSpace(text), []byte("0x"))
	text = bytes.ToLower(bytes.Join(bytes.Fields(text), nil))
	if len(text) == 0 || !isHex(text) {
		return errors.New("the value is not hexadecimal")
	}
	value := appendUnhex(nil, text)
	if alg == 0 {
		alg = algOfSize(len(value))
	}
	if alg == 0 || AlgSize(alg) != len(value) {
		return errors.New("the value does not have the size of its bank")
	}
	if p.all[index] == nil {
		p.all[index] = Values{}
	}
	if _, twice := p.all[index][alg]; twice {
		return errors.New("the PCR is there twice")
	}
	p.all[index][alg] = value
	return nil
}
