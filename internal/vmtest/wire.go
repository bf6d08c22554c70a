//go:build linux

package vmtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// What a guest tells its host goes over the second serial port, so that the
// console stays what a person would see. A message is
//
//	"\x00VMT" kind(1) len(name)(2) len(data)(4) name data crc32(4)
//
// little-endian, the checksum over all between the magic and itself. A kernel that
// probes its serial ports may send a stray byte, so the host looks for the magic.
type message struct {
	kind byte
	name string
	data []byte
}

const (
	msgBoot   = 'b' // a boot began; name: its number
	msgFile   = 'f' // an artifact; name: where it goes
	msgLog    = 'l'
	msgError  = 'e' // the test failed
	msgReboot = 'r' // the machine wants to be switched off and on again
	msgDone   = 'd' // the last boot ended as it should
)

const (
	wireMagic   = "\x00VMT"
	wireMaxData = 256 << 20
)

var errWire = errors.New("damaged message from the guest")

func (m *message) append(b []byte) []byte {
	b = append(b, wireMagic...)
	start := len(b)
	b = append(b, m.kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.data)))
	b = append(b, m.name...)
	b = append(b, m.data...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

// readMessage returns the next message, or io.EOF where the stream ended between
// two of them.
func readMessage(r *bufio.Reader) (message, error) {
	var last [len(wireMagic)]byte
	for string(last[:]) != wireMagic {
		c, err := r.ReadByte()
		if err != nil {
			return message{}, err
		}
		copy(last[:], last[1:])
		last[len(last)-1] = c
	}
	var head [7]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, fmt.Errorf("vmtest: %w: %v", errWire, err)
	}
	nameLen := int64(binary.LittleEndian.Uint16(head[1:]))
	dataLen := int64(binary.LittleEndian.Uint32(head[3:]))
	if dataLen > wireMaxData {
		return message{}, fmt.Errorf("vmtest: %w: %d bytes", errWire, dataLen)
	}
	var body bytes.Buffer // grows with what arrives, not with what was announced
	want := nameLen + dataLen + 4
	if n, err := io.Copy(&body, io.LimitReader(r, want)); err != nil || n != want {
		return message{}, fmt.Errorf("vmtest: %w: it ends after %d of %d bytes", errWire, n, want)
	}
	b := body.Bytes()
	sum := crc32.Update(crc32.ChecksumIEEE(head[:]), crc32.IEEETable, b[:want-4])
	if sum != binary.LittleEndian.Uint32(b[want-4:]) {
		return message{}, fmt.Errorf("vmtest: %w: checksum", errWire)
	}
	return message{kind: head[0], name: string(b[:nameLen]), data: b[nameLen : want-4]}, nil
}
