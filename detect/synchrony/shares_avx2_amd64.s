#include "textflag.h"

// The kernel's contract is beside the type dots.
//
// func dotsVPMADDUBSW(out *int32, rows *uint8, steps int, block *uint8)
//
// Two rows by 32 columns at a time: Y0-Y3 sum for one row, Y4-Y7 for the other. The
// products of two neighbouring bytes are below 2^14, and their sum fits 16 bits;
// VPMADDWD by ones joins two of those.
DATA ones<>+0(SB)/8, $0x0001000100010001
GLOBL ones<>(SB), RODATA|NOPTR, $8

// MULTIPLY adds four bytes of eight columns at off times those in ROW to SUM.
#define MULTIPLY(off, ROW, SUM, PRODUCT) \
	VPMADDUBSW off(R10), ROW, PRODUCT; \
	VPMADDWD   Y15, PRODUCT, PRODUCT; \
	VPADDD     PRODUCT, SUM, SUM

#define CLEARSUMS \
	VPXOR Y0, Y0, Y0; \
	VPXOR Y1, Y1, Y1; \
	VPXOR Y2, Y2, Y2; \
	VPXOR Y3, Y3, Y3; \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5; \
	VPXOR Y6, Y6, Y6; \
	VPXOR Y7, Y7, Y7

// STEP takes four bytes of both rows, and moves on.
#define STEP \
	VPBROADCASTD (SI)(R11*1), Y8; \
	VPBROADCASTD (R9)(R11*1), Y9; \
	MULTIPLY(0, Y8, Y0, Y10); \
	MULTIPLY(32, Y8, Y1, Y11); \
	MULTIPLY(64, Y8, Y2, Y12); \
	MULTIPLY(96, Y8, Y3, Y13); \
	MULTIPLY(0, Y9, Y4, Y10); \
	MULTIPLY(32, Y9, Y5, Y11); \
	MULTIPLY(64, Y9, Y6, Y12); \
	MULTIPLY(96, Y9, Y7, Y13); \
	ADDQ $4, R11; \
	ADDQ $256, R10

// STORE writes the sums of 32 columns from off on; a row has 256 bytes of sums.
#define STORE(off) \
	VMOVDQU Y0, (off)(DI); \
	VMOVDQU Y1, (off+32)(DI); \
	VMOVDQU Y2, (off+64)(DI); \
	VMOVDQU Y3, (off+96)(DI); \
	VMOVDQU Y4, (off+256)(DI); \
	VMOVDQU Y5, (off+288)(DI); \
	VMOVDQU Y6, (off+320)(DI); \
	VMOVDQU Y7, (off+352)(DI)

TEXT ·dotsVPMADDUBSW(SB), NOSPLIT, $0-32
	MOVQ         out+0(FP), DI
	MOVQ         rows+8(FP), SI
	MOVQ         steps+16(FP), CX
	MOVQ         block+24(FP), R8
	LEAQ         (CX*4), DX            // bytes of a row
	VPBROADCASTQ ones<>(SB), Y15
	MOVQ         $3, R12               // pairs of rows

pair:
	LEAQ (SI)(DX*1), R9
	CLEARSUMS
	MOVQ R8, R10
	XORQ R11, R11

first:
	STEP
	CMPQ R11, DX
	JLT  first
	STORE(0)
	CLEARSUMS
	LEAQ 128(R8), R10
	XORQ R11, R11

second:
	STEP
	CMPQ R11, DX
	JLT  second
	STORE(128)
	LEAQ (SI)(DX*2), SI
	ADDQ $512, DI
	DECQ R12
	JNZ  pair
	VZEROUPPER
	RET
