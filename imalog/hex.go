package imalog

// The package encodes hexadecimal itself: encoding/hex brings fmt along, which
// weighs more than all of this package in a boot loader.

const hexDigits = "0123456789abcdef"

func appendHex(b, src []byte) []byte {
	for _, c := range src {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// isHex reports whether b is bytes in lower-case hexadecimal, as the kernel
// prints them.
func isHex(b []byte) bool {
	for _, c := range b {
		if unhex(c) > 15 {
			return false
		}
	}
	return len(b)%2 == 0
}

// appendUnhex appends the bytes that src is in hexadecimal.
func appendUnhex(b, src []byte) []byte {
	for ; len(src) >= 2; src = src[2:] {
		b = append(b, unhex(src[0])<<4|unhex(src[1]))
	}
	return b
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
