# Purgatory for x86-64: hashes what purgatory.go put into the table, and jumps to
# the kernel if the digest is right. It is entered as relocate_kernel leaves the
# processor: 64-bit mode, identity page tables, interrupts off, no stack, SSE not
# enabled. It is position independent and is a flat binary, made by build.sh.

	.intel_syntax noprefix
	.text

header:				# read by purgatory.go
	jmp	start
	.balign	8
	.long	sha256_plain - header
	.long	sha256_ni - header
	.long	table - header
	.long	end - header

start:
	cli
	cld
	lea	rsp, [rip + stack_end]
	lea	r12, [rip + sha256_plain]
	mov	r13, cr0
	mov	r14, cr4
	call	has_sha
	jz	hash
	lea	r12, [rip + sha256_ni]
	mov	rax, r14
	or	rax, 3 << 9		# OSFXSR, OSXMMEXCPT
	mov	cr4, rax
	mov	rax, r13
	and	rax, ~(3 << 2)		# EM, TS
	or	rax, 1 << 1		# MP
	mov	cr0, rax

hash:
	lea	rbx, [rip + regions]
	mov	ebp, [rip + count]
1:	lea	rdi, [rip + state]
	mov	rsi, [rbx]
	mov	rdx, [rbx + 8]
	shr	rdx, 6
	jz	2f
	call	r12
2:	add	rbx, 16
	dec	ebp
	jnz	1b

	mov	cr0, r13
	mov	cr4, r14
	lea	rsi, [rip + state]
	lea	rdi, [rip + digest]
	mov	ecx, 4
	repe	cmpsq
	jne	stop

	mov	rsi, [rip + argument]
	mov	rax, [rip + entry]
	xor	ebx, ebx
	xor	ecx, ecx
	xor	edx, edx
	xor	edi, edi
	xor	ebp, ebp
	jmp	rax

# The digest is wrong: say so and halt for good.
stop:
	lea	rsi, [rip + message]
	movzx	ebx, word ptr [rip + port]
	test	ebx, ebx
	jz	5f
1:	lodsb
	test	al, al
	jz	5f
	mov	ah, al
	mov	ecx, 1 << 20		# a port that is not there must not hold us up
	lea	edx, [rbx + 5]		# line status
2:	in	al, dx
	test	al, 1 << 5		# transmitter holding register empty
	jnz	3f
	dec	ecx
	jnz	2b
3:	mov	al, ah
	mov	edx, ebx
	out	dx, al
	jmp	1b
5:	hlt
	jmp	5b

# Clears ZF if the CPU has SHA, SSSE3 and SSE4.1.
has_sha:
	xor	eax, eax
	cpuid
	cmp	eax, 7
	jb	1f
	mov	eax, 1
	cpuid
	and	ecx, 1 << 9 | 1 << 19
	cmp	ecx, 1 << 9 | 1 << 19
	jne	1f
	mov	eax, 7
	xor	ecx, ecx
	cpuid
	test	ebx, 1 << 29
	ret
1:	xor	eax, eax
	ret

# Both routines, with the C calling convention: rdi points at the eight words of the
# state, rsi at rdx blocks of 64 bytes, rdx is not 0 (FIPS 180-4, 6.2.2).

	.macro	round a, b, c, d, e, f, g, h, i
	mov	eax, \e			# Sigma1: rotations by 6, 11, 25
	ror	eax, 14
	xor	eax, \e
	ror	eax, 5
	xor	eax, \e
	ror	eax, 6
	add	\h, eax
	mov	eax, \f			# Ch
	xor	eax, \g
	and	eax, \e
	xor	eax, \g
	add	\h, eax
	add	\h, [rcx + 4 * \i]	# K
	add	\h, [rsp + rbp + 4 * \i] # W
	add	\d, \h
	mov	eax, \a			# Sigma0: rotations by 2, 13, 22
	ror	eax, 9
	xor	eax, \a
	ror	eax, 11
	xor	eax, \a
	ror	eax, 2
	add	\h, eax
	mov	eax, \a			# Maj
	mov	ebx, \a
	or	eax, \b
	and	ebx, \b
	and	eax, \c
	or	eax, ebx
	add	\h, eax
	.endm

sha256_plain:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	sub	rsp, 64 * 4		# W
block:
	.set	t, 0
	.rept	16
	mov	eax, [rsi + 4 * t]
	bswap	eax
	mov	[rsp + 4 * t], eax
	.set	t, t + 1
	.endr
	.rept	48
	mov	eax, [rsp + 4 * (t - 15)]	# sigma0: rotations by 7 and 18, shift by 3
	mov	ebx, eax
	ror	eax, 11
	xor	eax, ebx
	ror	eax, 7
	shr	ebx, 3
	xor	eax, ebx
	mov	ebx, [rsp + 4 * (t - 2)]	# sigma1: rotations by 17 and 19, shift by 10
	mov	ecx, ebx
	ror	ebx, 2
	xor	ebx, ecx
	ror	ebx, 17
	shr	ecx, 10
	xor	ebx, ecx
	add	eax, [rsp + 4 * (t - 16)]
	add	eax, [rsp + 4 * (t - 7)]
	add	eax, ebx
	mov	[rsp + 4 * t], eax
	.set	t, t + 1
	.endr

	mov	r8d, [rdi]
	mov	r9d, [rdi + 4]
	mov	r10d, [rdi + 8]
	mov	r11d, [rdi + 12]
	mov	r12d, [rdi + 16]
	mov	r13d, [rdi + 20]
	mov	r14d, [rdi + 24]
	mov	r15d, [rdi + 28]
	lea	rcx, [rip + K]
	xor	ebp, ebp
3:	round	r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d, 0
	round	r15d, r8d, r9d, r10d, r11d, r12d, r13d, r14d, 1
	round	r14d, r15d, r8d, r9d, r10d, r11d, r12d, r13d, 2
	round	r13d, r14d, r15d, r8d, r9d, r10d, r11d, r12d, 3
	round	r12d, r13d, r14d, r15d, r8d, r9d, r10d, r11d, 4
	round	r11d, r12d, r13d, r14d, r15d, r8d, r9d, r10d, 5
	round	r10d, r11d, r12d, r13d, r14d, r15d, r8d, r9d, 6
	round	r9d, r10d, r11d, r12d, r13d, r14d, r15d, r8d, 7
	add	rcx, 32
	add	ebp, 32
	cmp	ebp, 256
	jb	3b

	add	[rdi], r8d
	add	[rdi + 4], r9d
	add	[rdi + 8], r10d
	add	[rdi + 12], r11d
	add	[rdi + 16], r12d
	add	[rdi + 20], r13d
	add	[rdi + 24], r14d
	add	[rdi + 28], r15d
	add	rsi, 64
	dec	rdx
	jnz	block
	add	rsp, 64 * 4
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret

# Four rounds with the words in m0; unless they are the last sixteen, m0 becomes the
# four words that come after m3. The state is xmm1 (A, B, E, F from the highest lane
# down) and xmm2 (C, D, G, H); after two rounds they have changed places.
	.macro	rounds4 m0, m1, m2, m3, i
	movdqa	xmm0, \m0
	paddd	xmm0, [rcx + 16 * (\i)]
	sha256rnds2 xmm2, xmm1
	pshufd	xmm0, xmm0, 0x0e
	sha256rnds2 xmm1, xmm2
	.if	(\i) < 12
	movdqa	xmm7, \m3
	palignr	xmm7, \m2, 4
	sha256msg1 \m0, \m1
	paddd	\m0, xmm7
	sha256msg2 \m0, \m3
	.endif
	.endm

sha256_ni:
	lea	rcx, [rip + K]
	movdqa	xmm8, [rip + swap]
	movdqu	xmm1, [rdi]		# a b c d from the lowest lane up
	movdqu	xmm2, [rdi + 16]	# e f g h
	pshufd	xmm1, xmm1, 0xb1	# b a d c
	pshufd	xmm2, xmm2, 0x1b	# h g f e
	movdqa	xmm7, xmm1
	palignr	xmm1, xmm2, 8		# f e b a
	pblendw	xmm2, xmm7, 0xf0	# h g d c
1:	movdqa	xmm9, xmm1
	movdqa	xmm10, xmm2
	movdqu	xmm3, [rsi]
	movdqu	xmm4, [rsi + 16]
	movdqu	xmm5, [rsi + 32]
	movdqu	xmm6, [rsi + 48]
	pshufb	xmm3, xmm8
	pshufb	xmm4, xmm8
	pshufb	xmm5, xmm8
	pshufb	xmm6, xmm8
	.irp	i, 0, 4, 8, 12
	rounds4	xmm3, xmm4, xmm5, xmm6, \i
	rounds4	xmm4, xmm5, xmm6, xmm3, \i + 1
	rounds4	xmm5, xmm6, xmm3, xmm4, \i + 2
	rounds4	xmm6, xmm3, xmm4, xmm5, \i + 3
	.endr
	paddd	xmm1, xmm9
	paddd	xmm2, xmm10
	add	rsi, 64
	dec	rdx
	jnz	1b
	pshufd	xmm1, xmm1, 0x1b	# a b e f
	pshufd	xmm2, xmm2, 0xb1	# g h c d
	movdqa	xmm7, xmm1
	pblendw	xmm1, xmm2, 0xf0	# a b c d
	palignr	xmm2, xmm7, 8		# e f g h
	movdqu	[rdi], xmm1
	movdqu	[rdi + 16], xmm2
	ret

	.balign	16
swap:	.byte	3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12
K:	.long	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5
	.long	0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5
	.long	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3
	.long	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174
	.long	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc
	.long	0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da
	.long	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7
	.long	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967
	.long	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13
	.long	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85
	.long	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3
	.long	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070
	.long	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5
	.long	0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3
	.long	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208
	.long	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
message:
	.asciz	"\r\nimakexec: the kexec image changed in memory, stopped\r\n"

# What is written lies in pages of its own: a processor, and an emulator far more so,
# is slow to write beside code that it runs.
	.balign	4096
state:	.long	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a
	.long	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19

# Filled in by purgatory.go; the last region is the padding.
	.balign	16
table:
entry:	.quad	0
argument: .quad	0
digest:	.skip	32
padding: .skip	64
count:	.long	0
port:	.long	0
regions: .skip	17 * 16

	.balign	16
	.skip	1024
stack_end:
end:
