#include "textflag.h"

// The kernel's contract is documented at its declaration in kernel_amd64.go.

// func compareVPOPCNT(masks, rows *uint64, n, words int, block, limits *uint64)
//
// Z0-Z7 count for eight columns each. A row's word is broadcast to Z8, and eight
// groups of columns are counted with it.
TEXT ·compareVPOPCNT(SB), NOSPLIT, $0-48
	MOVQ  masks+0(FP), DI
	MOVQ  rows+8(FP), SI
	MOVQ  n+16(FP), CX
	MOVQ  words+24(FP), DX
	MOVQ  block+32(FP), R8
	MOVQ  limits+40(FP), R9
	TESTQ CX, CX
	JZ    done
	TESTQ DX, DX
	JZ    done

row:
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3
	VPXORQ Z4, Z4, Z4
	VPXORQ Z5, Z5, Z5
	VPXORQ Z6, Z6, Z6
	VPXORQ Z7, Z7, Z7
	MOVQ   R8, R10
	MOVQ   DX, R11

word:
	VPBROADCASTQ (SI), Z8
	VPANDQ       (R10), Z8, Z9
	VPANDQ       64(R10), Z8, Z10
	VPANDQ       128(R10), Z8, Z11
	VPANDQ       192(R10), Z8, Z12
	VPANDQ       256(R10), Z8, Z13
	VPANDQ       320(R10), Z8, Z14
	VPANDQ       384(R10), Z8, Z15
	VPANDQ       448(R10), Z8, Z16
	VPOPCNTQ     Z9, Z9
	VPOPCNTQ     Z10, Z10
	VPOPCNTQ     Z11, Z11
	VPOPCNTQ     Z12, Z12
	VPOPCNTQ     Z13, Z13
	VPOPCNTQ     Z14, Z14
	VPOPCNTQ     Z15, Z15
	VPOPCNTQ     Z16, Z16
	VPADDQ       Z9, Z0, Z0
	VPADDQ       Z10, Z1, Z1
	VPADDQ       Z11, Z2, Z2
	VPADDQ       Z12, Z3, Z3
	VPADDQ       Z13, Z4, Z4
	VPADDQ       Z14, Z5, Z5
	VPADDQ       Z15, Z6, Z6
	VPADDQ       Z16, Z7, Z7
	ADDQ         $8, SI
	ADDQ         $512, R10
	DECQ         R11
	JNZ          word

	VPBROADCASTQ (R9), Z8
	XORQ         AX, AX
	VPCMPUQ      $5, Z8, Z7, K1 // at least
	KMOVB        K1, BX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z6, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z5, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z4, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z3, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z2, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z1, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	VPCMPUQ      $5, Z8, Z0, K1 // at least
	KMOVB        K1, BX
	SHLQ         $8, AX
	ORQ          BX, AX
	MOVQ         AX, (DI)
	ADDQ         $8, DI
	ADDQ         $8, R9
	DECQ         CX
	JNZ          row

done:
	VZEROUPPER
	RET
