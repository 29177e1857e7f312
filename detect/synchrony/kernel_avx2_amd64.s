#include "textflag.h"

// The kernel's contract is beside its declaration in kernel_amd64.go.
//
// AVX2 has no count of bits. The count of each half of a byte is looked up in Y12
// by VPSHUFB (Mula 2008), and summed in bytes, which hold 31 words of a row; then
// VPSADBW sums the bytes of each column into 64 counters on the stack.

DATA nibbles<>+0(SB)/8, $0x0302020102010100
DATA nibbles<>+8(SB)/8, $0x0403030203020201
DATA nibbles<>+16(SB)/8, $0x0302020102010100
DATA nibbles<>+24(SB)/8, $0x0403030203020201
GLOBL nibbles<>(SB), RODATA|NOPTR, $32

DATA low<>+0(SB)/8, $0x0f0f0f0f0f0f0f0f
GLOBL low<>(SB), RODATA|NOPTR, $8

// COUNT adds the common bits of Y8 and of the four columns at off to SUM.
#define COUNT(off, SUM, LOW, HIGH) \
	VPAND   off(R12), Y8, LOW; \
	VPSRLW  $4, LOW, HIGH; \
	VPAND   Y13, LOW, LOW; \
	VPAND   Y13, HIGH, HIGH; \
	VPSHUFB LOW, Y12, LOW; \
	VPSHUFB HIGH, Y12, HIGH; \
	VPADDB  LOW, SUM, SUM; \
	VPADDB  HIGH, SUM, SUM

// FLUSH adds the bytes of SUM to four counters.
#define FLUSH(off, SUM) \
	VPSADBW Y14, SUM, SUM; \
	VPADDQ  off(SP), SUM, SUM; \
	VMOVDQU SUM, off(SP)

#define CLEAR \
	VPXOR Y0, Y0, Y0; \
	VPXOR Y1, Y1, Y1; \
	VPXOR Y2, Y2, Y2; \
	VPXOR Y3, Y3, Y3; \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5; \
	VPXOR Y6, Y6, Y6; \
	VPXOR Y7, Y7, Y7

#define ZERO(off) \
	VMOVDQU Y14, off(SP); \
	VMOVDQU Y14, (off+32)(SP); \
	VMOVDQU Y14, (off+64)(SP); \
	VMOVDQU Y14, (off+96)(SP)

// ATLEAST shifts into AX whether each of four counters is more than Y8.
#define ATLEAST(off) \
	VMOVDQU   off(SP), Y0; \
	VPCMPGTQ  Y8, Y0, Y0; \
	VMOVMSKPD Y0, BX; \
	SHLQ      $4, AX; \
	ORQ       BX, AX

// func compareVPSHUFB(masks, rows *uint64, n, words int, block, limits *uint64)
TEXT ·compareVPSHUFB(SB), NOSPLIT, $512-48
	MOVQ         masks+0(FP), DI
	MOVQ         rows+8(FP), SI
	MOVQ         n+16(FP), CX
	MOVQ         limits+40(FP), R9
	TESTQ        CX, CX
	JZ           done
	VMOVDQU      nibbles<>(SB), Y12
	VPBROADCASTQ low<>(SB), Y13
	VPXOR        Y14, Y14, Y14

row:
	ZERO(0)
	ZERO(128)
	ZERO(256)
	ZERO(384)
	MOVQ  words+24(FP), DX
	MOVQ  block+32(FP), R8
	TESTQ DX, DX
	JZ    compare

chunk:
	MOVQ    $31, R11
	CMPQ    DX, R11
	CMOVQLT DX, R11

	// Columns 0 to 31.
	CLEAR
	MOVQ R8, R12
	MOVQ SI, R10
	MOVQ R11, R13

first:
	VPBROADCASTQ (R10), Y8
	COUNT(0, Y0, Y9, Y10)
	COUNT(32, Y1, Y11, Y15)
	COUNT(64, Y2, Y9, Y10)
	COUNT(96, Y3, Y11, Y15)
	COUNT(128, Y4, Y9, Y10)
	COUNT(160, Y5, Y11, Y15)
	COUNT(192, Y6, Y9, Y10)
	COUNT(224, Y7, Y11, Y15)
	ADDQ         $8, R10
	ADDQ         $512, R12
	DECQ         R13
	JNZ          first
	FLUSH(0, Y0)
	FLUSH(32, Y1)
	FLUSH(64, Y2)
	FLUSH(96, Y3)
	FLUSH(128, Y4)
	FLUSH(160, Y5)
	FLUSH(192, Y6)
	FLUSH(224, Y7)

	// Columns 32 to 63.
	CLEAR
	MOVQ R8, R12
	MOVQ SI, R10
	MOVQ R11, R13

second:
	VPBROADCASTQ (R10), Y8
	COUNT(256, Y0, Y9, Y10)
	COUNT(288, Y1, Y11, Y15)
	COUNT(320, Y2, Y9, Y10)
	COUNT(352, Y3, Y11, Y15)
	COUNT(384, Y4, Y9, Y10)
	COUNT(416, Y5, Y11, Y15)
	COUNT(448, Y6, Y9, Y10)
	COUNT(480, Y7, Y11, Y15)
	ADDQ         $8, R10
	ADDQ         $512, R12
	DECQ         R13
	JNZ          second
	FLUSH(256, Y0)
	FLUSH(288, Y1)
	FLUSH(320, Y2)
	FLUSH(352, Y3)
	FLUSH(384, Y4)
	FLUSH(416, Y5)
	FLUSH(448, Y6)
	FLUSH(480, Y7)

	MOVQ R10, SI
	MOVQ R12, R8
	SUBQ R11, DX
	JNZ  chunk

compare:
	MOVQ         (R9), AX
	DECQ         AX
	MOVQ         AX, X8
	VPBROADCASTQ X8, Y8
	XORQ         AX, AX
	ATLEAST(480)
	ATLEAST(448)
	ATLEAST(416)
	ATLEAST(384)
	ATLEAST(352)
	ATLEAST(320)
	ATLEAST(288)
	ATLEAST(256)
	ATLEAST(224)
	ATLEAST(192)
	ATLEAST(160)
	ATLEAST(128)
	ATLEAST(96)
	ATLEAST(64)
	ATLEAST(32)
	ATLEAST(0)
	MOVQ         AX, (DI)
	ADDQ         $8, DI
	ADDQ         $8, R9
	DECQ         CX
	JNZ          row

done:
	VZEROUPPER
	RET
