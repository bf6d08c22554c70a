package imalog

import "encoding/binary"

// byteOrder is the order of the integers in a list: true is big-endian. Unlike a
// binary.ByteOrder it costs no call.
type byteOrder bool

// isBigEndian returns an order by any name; nil is little-endian.
func isBigEndian(order binary.ByteOrder) byteOrder {
	return order != nil && order.Uint32([]byte{0, 0, 0, 1}) == 1
}

func (big byteOrder) uint16(b []byte) uint16 {
	if big {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

func (big byteOrder) uint32(b []byte) uint32 {
	if big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (big byteOrder) uint64(b []byte) uint64 {
	if big {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

func (big byteOrder) appendUint16(b []byte, v uint16) []byte {
	if big {
		return binary.BigEndian.AppendUint16(b, v)
	}
	return binary.LittleEndian.AppendUint16(b, v)
}

func (big byteOrder) appendUint32(b []byte, v uint32) []byte {
	if big {
		return binary.BigEndian.AppendUint32(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, v)
}

func (big byteOrder) appendUint64(b []byte, v uint64) []byte {
	if big {
		return binary.BigEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint64(b, v)
}

func (big byteOrder) putUint32(b []byte, v uint32) {
	if big {
		binary.BigEndian.PutUint32(b, v)
		return
	}
	binary.LittleEndian.PutUint32(b, v)
}
