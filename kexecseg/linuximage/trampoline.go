package linuximage

import "encoding/binary"

// trampolineSize is what trampoline returns, rounded up.
const trampolineSize = 32

// trampoline is the code that the running kernel jumps to: it enters the next one
// with the address of boot_params in RSI, since relocate_kernel clears every
// register.
//
//	movabs rsi, params
//	movabs rax, entry
//	jmp rax
func trampoline(params, entry uint64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{0x48, 0xbe}, params)
	b = binary.LittleEndian.AppendUint64(append(b, 0x48, 0xb8), entry)
	return append(b, 0xff, 0xe0)
}
