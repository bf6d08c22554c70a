package imalog

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"strconv"
	"strings"
)

// A Header begins the buffer in which a measurement list crosses a kexec
// (security/integrity/ima/ima.h: struct ima_kexec_hdr): u16 version, six bytes
// of zero, u64 size of header and records, u64 number of records, in the
// kernel's byte order; this package writes little-endian, and Form reads either.
type Header struct {
	Version uint16
	Size    uint64 // bytes, with the header
	Count   uint64 // records
}

// HeaderSize is the size of an encoded Header in bytes.
const HeaderSize = 24

// headerVersion is the only version there is.
const headerVersion = 1

// Put encodes the header into the first HeaderSize bytes of dst.
func (h Header) Put(dst []byte) {
	_ = dst[HeaderSize-1]
	binary.LittleEndian.PutUint64(dst, uint64(h.Version))
	binary.LittleEndian.PutUint64(dst[8:], h.Size)
	binary.LittleEndian.PutUint64(dst[16:], h.Count)
}

func getHeader(src []byte, order byteOrder) Header {
	return Header{
		Version: order.uint16(src),
		Size:    order.uint64(src[8:]),
		Count:   order.uint64(src[16:]),
	}
}

// ErrShort means that a list does not fit into its buffer.
var ErrShort = errors.New("imalog: the buffer is too small for the list")

// ErrForm means that a record is in another form than that of a kexec buffer: SHA-1
// template digests, little-endian.
var ErrForm = errors.New("a record of a kexec buffer has a SHA-1 digest and is little-endian")

// Dump writes the kexec buffer of a list into dst: a header and as many whole
// records as fit. What is behind them is not touched. It returns the number of
// bytes written, which is the header's Size.
//
// When a record does not fit, the error is ErrShort and the buffer holds the
// records before it; a receiver accepts it, so a caller who wants the list cut
// ignores the error. An error of the list is returned likewise, and ErrForm for a record
// that is not as the buffer has it. With less than HeaderSize bytes nothing is written.
func Dump(dst []byte, list iter.Seq2[Record, error]) (int, error) {
	if len(dst) < HeaderSize {
		return 0, ErrShort
	}
	n, count := HeaderSize, uint64(0)
	var failed error
	for rec, err := range list {
		if err != nil {
			failed = err
			break
		}
		if len(rec.Digest) != sha1.Size || rec.BigEndian {
			failed = &RecordError{int64(n - HeaderSize), int(count), ErrForm}
			break
		}
		if rec.BinarySize() > len(dst)-n {
			failed = ErrShort
			break
		}
		out, err := rec.AppendBinary(dst[n:n])
		if err != nil {
			failed = &RecordError{int64(n - HeaderSize), int(count), err}
			break
		}
		n += len(out)
		count++
	}
	Header{headerVersion, uint64(n), count}.Put(dst)
	return n, failed
}

// DumpBinary is Dump for a list in binary form that is in memory, of SHA-1
// digests and in little-endian form: its bytes are copied as they are.
//
// count is the number of its records, which whoever read the list knows:
// Follower.Count, Result.Records. It is not checked while the list fits, so that
// nothing is done but the copy. If it is negative the records are counted.
func DumpBinary(dst, list []byte, count int) (int, error) {
	if len(dst) < HeaderSize {
		return 0, ErrShort
	}
	n := len(list)
	var failed error
	if room := len(dst) - HeaderSize; count < 0 || n > room {
		n, count, failed = whole(list, room)
	}
	copy(dst[HeaderSize:], list[:n])
	Header{headerVersion, uint64(HeaderSize + n), uint64(count)}.Put(dst)
	return HeaderSize + n, failed
}

// whole returns the size and the number of the records at the start of a list
// that fit into room.
func whole(list []byte, room int) (size, count int, err error) {
	for rec, err := range Records(list, nil) {
		if err != nil {
			return size, count, err
		}
		n := rec.BinarySize()
		if n > room-size {
			return size, count, ErrShort
		}
		size += n
		count++
	}
	return size, count, nil
}

// Why a kernel gives up restoring a list. Each comes in a *RestoreError.
var (
	ErrVersion = errors.New("version of the buffer is not 1")
	ErrCount   = errors.New("number of records is impossible")
	ErrSize    = errors.New("size in the header is larger than the buffer")
	ErrEnd     = errors.New("last record does not end where the header says that the buffer does")
	ErrTooLong = errors.New("template name is too long")
	ErrOldIMA  = errors.New(`template "ima" cannot be restored`)
)

// A RestoreError tells why a kernel stops restoring a buffer, and where. The
// records before were kept, and the kernel boots on in any case.
type RestoreError struct {
	Offset int64 // bytes before the record, the header included
	Record int   // records that were kept
	// Silent tells that the kernel does not count this as a failure: it logs the
	// template it does not know and goes on as if the list were complete.
	Silent bool
	Err    error
}

func (e *RestoreError) Error() string {
	return "imalog: kexec buffer: record " + strconv.Itoa(e.Record) + " at offset " + strconv.FormatInt(e.Offset, 10) + ": " + e.Err.Error()
}

func (e *RestoreError) Unwrap() error { return e.Err }

// restoreName is the length from which on a kernel refuses a template name when
// it restores (security/integrity/ima/ima_template.c: MAX_TEMPLATE_NAME_LEN).
const restoreName = 69

// Restorable says whether a kernel that finds the record in a kexec buffer restores
// it, and what comes behind it. The error unwraps to ErrTooLong for a template name
// of 69 bytes and more, which ima_template_fmt= can make, to ErrOldIMA, ErrTemplate or
// ErrFields.
func (r *Record) Restorable() error {
	rec := *r
	return new(restorer).judge(&rec)
}

// wraps is the size from which on the end of a buffer wraps around: a 64-bit kernel maps
// memory in the last 2^56 bytes of its addresses. With four levels of page tables it is
// 2^47 already, but that depends on where the buffer lies.
const wraps = 1 << 56

// Restore reads a kexec buffer by the kernel's own rules
// (security/integrity/ima/ima_template.c: ima_restore_measurement_list) and
// returns what the kernel's list would begin with: digests are computed anew
// from the data, but for violations, and a field format that belongs to a named
// template gets that name. To read the records as they were sent, use Records on
// what follows the header.
//
// The records alias src where they can. When the kernel gives up, the records
// before are returned with a *RestoreError. No error does not mean that nothing was lost:
// like the kernel, Restore is silent when the buffer ends before Count records
// were read; compare their number with the header's.
//
// A Size that is larger than src makes the kernel read what lies behind the
// buffer; Restore takes it as the end of the list if it must read there. With one of
// 2^56 and more the kernel restores nothing, silently.
func Restore(src []byte) ([]Record, Header, error) {
	if len(src) < HeaderSize {
		return nil, Header{}, nil
	}
	h := getHeader(src, false)
	if h.Version != headerVersion {
		return nil, h, &RestoreError{Err: ErrVersion}
	}
	if h.Count == 1<<64-1 {
		return nil, h, &RestoreError{Err: ErrCount}
	}
	if h.Size >= wraps {
		// The kernel's end of the buffer lies before its start.
		return nil, h, &RestoreError{Silent: true, Err: ErrSize}
	}
	var records []Record
	p := restorer{src: src, pos: HeaderSize, end: h.Size}
	for n := uint64(0); p.pos < p.end && n < h.Count; n++ {
		start := p.pos
		rec, err := p.record(n+1 == h.Count)
		if err != nil {
			return records, h, &RestoreError{int64(start), len(records), p.silent, err}
		}
		records = append(records, rec)
	}
	return records, h, nil
}

// A restorer takes a kexec buffer apart as the kernel does.
type restorer struct {
	src    []byte
	pos    uint64
	end    uint64 // as the header says
	silent bool
	last   string // template of the previous record
}

// bytes takes n bytes (security/integrity/ima/ima_template_lib.c: ima_parse_buf).
func (p *restorer) bytes(n uint64) ([]byte, error) {
	if n > p.end-p.pos {
		return nil, io.ErrUnexpectedEOF
	}
	if n > uint64(len(p.src))-min(p.pos, uint64(len(p.src))) {
		return nil, ErrSize
	}
	b := p.src[p.pos : p.pos+n : p.pos+n]
	p.pos += n
	return b, nil
}

// counted takes a length and as many bytes.
func (p *restorer) counted() ([]byte, error) {
	b, err := p.bytes(4)
	if err != nil {
		return nil, err
	}
	return p.bytes(uint64(binary.LittleEndian.Uint32(b)))
}

// record takes one record.
func (p *restorer) record(last bool) (rec Record, err error) {
	pcr, err := p.bytes(4)
	if err != nil {
		return rec, err
	}
	if rec.Digest, err = p.bytes(20); err != nil {
		return rec, err
	}
	name, err := p.counted()
	if err != nil {
		return rec, err
	}
	if rec.Data, err = p.counted(); err != nil {
		return rec, err
	}
	if last && p.pos != p.end {
		return rec, ErrEnd
	}
	rec.PCR = binary.LittleEndian.Uint32(pcr)
	if string(name) != p.last {
		p.last = string(name)
	}
	rec.Template = p.last
	if err := p.judge(&rec); err != nil {
		return rec, err
	}
	if !rec.Violation() {
		sum, err := rec.AppendDigest(nil, AlgSHA1)
		if err != nil {
			return rec, err
		}
		if !bytes.Equal(sum, rec.Digest) {
			rec.Digest = sum
		}
	}
	return rec, nil
}

// judge refuses what the kernel refuses, and names the template as it lists it.
func (p *restorer) judge(rec *Record) error {
	name := rec.Template
	if len(name) >= restoreName {
		return ErrTooLong
	}
	name, _, _ = strings.Cut(name, "\x00")
	if name == templateIMA {
		return ErrOldIMA
	}
	rec.Template = listedAs(name)
	err := p.fields(rec)
	// The empty name is that of the slot for ima_template_fmt=, which is found and then
	// has no field; any other is looked for as a format.
	p.silent = err == ErrTemplate && name != ""
	return err
}

// fields checks that the data has the template's fields and brings it into the
// form in which the template is listed.
func (p *restorer) fields(rec *Record) error {
	if rec.Template != templateIMA {
		for _, err := range rec.Fields() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	// "d|n" with lengths, as any format comes, and listed as "ima".
	counted := *rec
	counted.Template = "d|n"
	var data []byte
	for f, err := range counted.Fields() {
		switch {
		case err != nil:
			return err
		case f.ID() == "d" && len(f.Data) != 20:
			return malformed("d")
		case f.ID() == "d":
			data = append(data, f.Data...)
		default:
			name := cString(f.Data)
			data = binary.LittleEndian.AppendUint32(data, uint32(len(name)))
			data = append(data, name...)
		}
	}
	rec.Data = data
	return nil
}
