#include "textflag.h"

// The contract is beside the declaration in lookup_amd64.go.

// LOOKUP adds to Y0 and Y1 what the entry at off says of 64 columns.
#define LOOKUP(off, TABLE, LOW, HIGH) \
	MOVL    off(SI), AX; \
	MOVL    AX, BX; \
	ANDL    $0x1e0, BX; \
	SHRL    $3, AX; \
	ANDL    $-64, AX; \
	VMOVDQU (R11)(BX*1), TABLE; \
	VPSHUFB (R8)(AX*1), TABLE, LOW; \
	VPSHUFB 32(R8)(AX*1), TABLE, HIGH; \
	VPADDB  LOW, Y0, Y0; \
	VPADDB  HIGH, Y1, Y1

// WIDEN adds sixteen bytes to as many words.
#define WIDEN(BYTES, SUMS) \
	VPMOVZXBW BYTES, Y2; \
	VPADDW    Y2, SUMS, SUMS

// ATLEAST sets the words of SUMS that are at least those of Y2, and clears others.
#define ATLEAST(SUMS) \
	VPMAXUW  SUMS, Y2, Y3; \
	VPCMPEQW Y3, SUMS, SUMS

// func lookupMasks(masks *uint64, entries, ends *uint32, n int, block *uint8, limits *uint16, tables *uint8)
//
// SI goes through the entries of all rows. Of a row, DX counts those that are left and
// R13 those of a chunk, which Y0 and Y1 sum in bytes; Y12-Y15 sum the row in words.
TEXT ·lookupMasks(SB), NOSPLIT, $0-56
	MOVQ  masks+0(FP), DI
	MOVQ  entries+8(FP), SI
	MOVQ  ends+16(FP), R9
	MOVQ  n+24(FP), CX
	MOVQ  block+32(FP), R8
	MOVQ  limits+40(FP), R10
	MOVQ  tables+48(FP), R11
	XORL  R12, R12
	TESTQ CX, CX
	JZ    done

row:
	VPXOR Y12, Y12, Y12
	VPXOR Y13, Y13, Y13
	VPXOR Y14, Y14, Y14
	VPXOR Y15, Y15, Y15
	MOVL  R12, AX
	MOVL  (R9), R12
	MOVL  R12, DX
	SUBL  AX, DX
	JZ    compare

chunk:
	MOVL    $60, R13
	CMPL    DX, R13
	CMOVLLT DX, R13
	SUBL    R13, DX
	VPXOR   Y0, Y0, Y0
	VPXOR   Y1, Y1, Y1

entries:
	LOOKUP(0, Y2, Y3, Y4)
	LOOKUP(4, Y5, Y6, Y7)
	LOOKUP(8, Y8, Y9, Y10)
	LOOKUP(12, Y2, Y3, Y4)
	ADDQ         $16, SI
	SUBL         $4, R13
	JNZ          entries
	WIDEN(X0, Y12)
	WIDEN(X1, Y14)
	VEXTRACTI128 $1, Y0, X0
	VEXTRACTI128 $1, Y1, X1
	WIDEN(X0, Y13)
	WIDEN(X1, Y15)
	TESTL        DX, DX
	JNZ          chunk

compare:
	VPBROADCASTW (R10), Y2
	ATLEAST(Y12)
	ATLEAST(Y13)
	ATLEAST(Y14)
	ATLEAST(Y15)
	VPACKSSWB    Y13, Y12, Y12         // by halves of registers
	VPACKSSWB    Y15, Y14, Y14
	VPERMQ       $0xd8, Y12, Y12       // in order
	VPERMQ       $0xd8, Y14, Y14
	VPMOVMSKB    Y12, AX
	VPMOVMSKB    Y14, BX
	SHLQ         $32, BX
	ORQ          BX, AX
	MOVQ         AX, (DI)
	ADDQ         $8, DI
	ADDQ         $4, R9
	ADDQ         $2, R10
	DECQ         CX
	JNZ          row
	VZEROUPPER

done:
	RET
