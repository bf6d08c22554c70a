package softtpm

import (
	"bytes"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// Response codes with the handle, parameter or session they blame (TPM 2.0
// Library, part 2, 6.6.2).
const (
	rcBadTag tpm2.TPMRC = 0x01e // that of TPM 1.2, which has no tag but this

	rcParameter1 = 0x040 + 0x100
	rcParameter2 = 0x040 + 0x200
	rcHandle1    = 0x100
	rcSession1   = 0x800 + 0x100
)

const (
	maxDigestValues = 16 // TPML_DIGEST_VALUES, TPML_PCR_SELECTION: HASH_COUNT at most
	maxSelect       = 4  // sizeofSelect: bytes of a PCR bitmap
)

// Send carries out one command (transport.TPM).
func (t *TPM) Send(command []byte) ([]byte, error) {
	in := &reader{b: command}
	tag, size, cc := tpm2.TPMST(in.u16()), in.u32(), tpm2.TPMCC(in.u32())
	fault := t.strike(cc)
	if fault != nil && fault.RC != 0 {
		return failure(fault.RC), nil
	}
	if fault != nil && fault.Err != nil && !fault.Done {
		return nil, fault.Err
	}
	rsp := t.run(in, tag, size, cc, len(command))
	if fault != nil && fault.Err != nil {
		return nil, fault.Err
	}
	return rsp, nil
}

func (t *TPM) run(in *reader, tag tpm2.TPMST, size uint32, cc tpm2.TPMCC, length int) []byte {
	switch {
	case tag != tpm2.TPMSTNoSessions && tag != tpm2.TPMSTSessions:
		return failure(rcBadTag)
	case in.short || uint64(size) != uint64(length):
		return failure(tpm2.TPMRCCommandSize)
	}
	sessions := tag == tpm2.TPMSTSessions
	switch cc {
	case tpm2.TPMCCStartup:
		return failure(tpm2.TPMRCInitialize)
	case tpm2.TPMCCGetCapability:
		if sessions {
			return failure(tpm2.TPMRCHandle + rcSession1)
		}
		return t.getCapability(in)
	case tpm2.TPMCCPCRRead:
		if sessions {
			return failure(tpm2.TPMRCHandle + rcSession1)
		}
		return t.pcrRead(in)
	case tpm2.TPMCCPCRExtend:
		return t.pcrExtend(in, sessions)
	}
	return failure(tpm2.TPMRCCommandCode)
}

// getCapability answers TPM_CAP_PCRS (part 3, 30.2).
func (t *TPM) getCapability(in *reader) []byte {
	var parameters [3]uint32
	for i := range parameters {
		if parameters[i] = in.u32(); in.short {
			return failure(tpm2.TPMRCInsufficient + rcParameter1 + 0x100*tpm2.TPMRC(i))
		}
	}
	capability, property, count := tpm2.TPMCap(parameters[0]), parameters[1], parameters[2]
	switch {
	case len(in.b) != 0:
		return failure(tpm2.TPMRCSize)
	case capability != tpm2.TPMCapPCRs:
		return failure(tpm2.TPMRCValue + rcParameter1)
	case property != 0:
		return failure(tpm2.TPMRCValue + rcParameter2)
	}
	// The reference gives all banks, whatever the count, but for a count of 0.
	banks := append(t.opts.Banks[:len(t.opts.Banks):len(t.opts.Banks)], t.opts.Unallocated...)
	more := byte(0)
	if count == 0 {
		banks, more = nil, 1
	}
	out := []byte{more}
	out = binary.BigEndian.AppendUint32(out, uint32(capability))
	out = binary.BigEndian.AppendUint32(out, uint32(len(banks)))
	for i, b := range banks {
		out = binary.BigEndian.AppendUint16(out, uint16(b.Alg))
		if i < len(t.opts.Banks) {
			out = append(out, 3, 0xff, 0xff, 0xff)
		} else {
			out = append(out, 3, 0, 0, 0)
		}
	}
	return success(out)
}

// selection is one bank of a TPML_PCR_SELECTION.
type selection struct {
	alg  tpm2.TPMAlgID
	bits []byte
}

// pcrRead answers the first digests that are asked for, and says which those
// are (part 3, 22.4).
func (t *TPM) pcrRead(in *reader) []byte {
	count := in.u32()
	if !in.short && count > maxDigestValues {
		return failure(tpm2.TPMRCSize + rcParameter1)
	}
	var sel []selection
	for range count {
		s := selection{alg: tpm2.TPMAlgID(in.u16())}
		if !in.short && !t.known(s.alg) {
			return failure(tpm2.TPMRCHash + rcParameter1)
		}
		size := in.u8()
		if !in.short && (size > maxSelect || size < PCRs/8) {
			return failure(tpm2.TPMRCValue + rcParameter1)
		}
		s.bits = bytes.Clone(in.take(int(size)))
		sel = append(sel, s)
		if in.short {
			break
		}
	}
	switch {
	case in.short:
		return failure(tpm2.TPMRCInsufficient + rcParameter1)
	case len(in.b) != 0:
		return failure(tpm2.TPMRCSize)
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	var digests []byte
	n := 0
	for _, s := range sel {
		bank := t.pcrs[s.alg]
		for pcr := range 8 * len(s.bits) {
			mask := byte(1) << (pcr % 8)
			if s.bits[pcr/8]&mask == 0 {
				continue
			}
			if bank == nil || pcr >= PCRs || n == t.opts.MaxDigests {
				s.bits[pcr/8] &^= mask
				continue
			}
			digests = binary.BigEndian.AppendUint16(digests, uint16(len(bank[pcr])))
			digests = append(digests, bank[pcr]...)
			n++
		}
	}
	out := binary.BigEndian.AppendUint32(nil, t.counter)
	out = binary.BigEndian.AppendUint32(out, uint32(len(sel)))
	for _, s := range sel {
		out = binary.BigEndian.AppendUint16(out, uint16(s.alg))
		out = append(out, byte(len(s.bits)))
		out = append(out, s.bits...)
	}
	out = binary.BigEndian.AppendUint32(out, uint32(n))
	return success(append(out, digests...))
}

type digest struct {
	alg   tpm2.TPMAlgID
	value []byte
}

// pcrExtend extends a PCR in the banks it is given a digest for; one for a bank
// that is not allocated is ignored (part 3, 22.2). The session is the empty
// password.
func (t *TPM) pcrExtend(in *reader, sessions bool) []byte {
	handle := in.u32()
	switch {
	case in.short:
		return failure(tpm2.TPMRCInsufficient + rcHandle1)
	case handle >= PCRs && handle != uint32(tpm2.TPMRHNull):
		return failure(tpm2.TPMRCValue + rcHandle1)
	case !sessions:
		return failure(tpm2.TPMRCAuthMissing)
	}
	size := in.u32()
	switch {
	case in.short:
		return failure(tpm2.TPMRCInsufficient)
	case uint64(size) > uint64(len(in.b)):
		return failure(tpm2.TPMRCSize)
	}
	auth := &reader{b: in.take(int(size))}
	session := auth.u32()
	auth.take(int(auth.u16()))
	attributes := auth.u8()
	password := auth.take(int(auth.u16()))
	switch {
	case auth.short || len(auth.b) != 0:
		return failure(tpm2.TPMRCAuthSize)
	case session != uint32(tpm2.TPMRSPW):
		return failure(tpm2.TPMRCValue + rcSession1)
	case len(password) != 0:
		return failure(tpm2.TPMRCBadAuth + rcSession1)
	}

	count := in.u32()
	if !in.short && count > maxDigestValues {
		return failure(tpm2.TPMRCSize + rcParameter1)
	}
	var digests []digest
	for range count {
		d := digest{alg: tpm2.TPMAlgID(in.u16())}
		if in.short {
			break
		}
		b, ok := t.bank(d.alg)
		if !ok {
			return failure(tpm2.TPMRCHash + rcParameter1)
		}
		d.value = in.take(b.New().Size())
		digests = append(digests, d)
	}
	switch {
	case in.short:
		return failure(tpm2.TPMRCInsufficient + rcParameter1)
	case len(in.b) != 0:
		return failure(tpm2.TPMRCSize)
	case handle >= 17 && handle <= 22:
		return failure(tpm2.TPMRCLocality)
	}
	if handle != uint32(tpm2.TPMRHNull) {
		t.extend(handle, digests)
	}
	// No parameters; the password session answers without nonce or HMAC.
	return reply(tpm2.TPMSTSessions, tpm2.TPMRCSuccess, []byte{0, 0, 0, 0, 0, 0, attributes | 1, 0, 0})
}

func (t *TPM) extend(pcr uint32, digests []digest) {
	before, after := t.enterHooks()
	if before != nil {
		before(pcr)
	}
	t.mu.Lock()
	for _, d := range digests {
		bank := t.pcrs[d.alg]
		if bank == nil {
			continue
		}
		b, _ := t.bank(d.alg)
		h := b.New()
		h.Write(bank[pcr])
		h.Write(d.value)
		bank[pcr] = h.Sum(nil)
		t.counter++
	}
	t.extends++
	t.mu.Unlock()
	if after != nil {
		after(pcr)
	}
	if before != nil || after != nil {
		t.mu.Lock()
		t.hooked = false
		t.mu.Unlock()
	}
}

// enterHooks returns the hooks of an extend, none while another's are running.
func (t *TPM) enterHooks() (before, after func(pcr uint32)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hooked || (t.before == nil && t.after == nil) {
		return nil, nil
	}
	t.hooked = true
	return t.before, t.after
}

func (t *TPM) bank(alg tpm2.TPMAlgID) (Bank, bool) {
	for _, banks := range [][]Bank{t.opts.Banks, t.opts.Unallocated} {
		for _, b := range banks {
			if b.Alg == alg {
				return b, true
			}
		}
	}
	// A TPM that implements a hash knows it whether or not it has a bank.
	for _, b := range []Bank{SHA1(), SHA256(), SHA384(), SHA512()} {
		if b.Alg == alg {
			return b, true
		}
	}
	return Bank{}, false
}

func (t *TPM) known(alg tpm2.TPMAlgID) bool {
	_, ok := t.bank(alg)
	return ok
}

func failure(rc tpm2.TPMRC) []byte { return reply(tpm2.TPMSTNoSessions, rc, nil) }

func success(body []byte) []byte { return reply(tpm2.TPMSTNoSessions, tpm2.TPMRCSuccess, body) }

func reply(tag tpm2.TPMST, rc tpm2.TPMRC, body []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(tag))
	out = binary.BigEndian.AppendUint32(out, uint32(10+len(body)))
	out = binary.BigEndian.AppendUint32(out, uint32(rc))
	return append(out, body...)
}

// reader takes big-endian integers off a command. Past its end it returns
// zeros and is short.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.short = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (r *reader) u16() uint16 {
	b := r.take(2)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func (r *reader) u32() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
