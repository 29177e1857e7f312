#include "textflag.h"

// The kernels' contracts stand beside their declarations in kernel_amd64.go.
// None reads beyond what its arguments span; the caller pads.

// func classifyVBMI(dst, src *byte, n int, table *[256]byte)
TEXT ·classifyVBMI(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ table+24(FP), DX
	VMOVDQU64 (DX), Z0
	VMOVDQU64 64(DX), Z1
	VMOVDQU64 128(DX), Z2
	VMOVDQU64 192(DX), Z3
	TESTQ CX, CX
	JZ    classified

classify:
	VMOVDQU64 (SI), Z4
	VMOVDQA64 Z4, Z5
	VMOVDQA64 Z4, Z6
	VPERMI2B  Z1, Z0, Z5 // bytes below 0x80
	VPERMI2B  Z3, Z2, Z6 // bytes from 0x80
	VPMOVB2M  Z4, K1
	VMOVDQU8  Z6, K1, Z5
	VMOVDQU64 Z5, (DI)
	ADDQ      $64, SI
	ADDQ      $64, DI
	DECQ      CX
	JNZ       classify

classified:
	VZEROUPPER
	RET

// func filterVBMI(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16)
//
// Z0-Z3 add four positions in bytes; Z10-Z17 add those sums in words, which
// Z4-Z7 are spread to. Unpacking and packing undo each other's order.
TEXT ·filterVBMI(SB), NOSPLIT, $0-50
	MOVQ    dst+0(FP), DI
	MOVQ    classes+8(FP), SI
	MOVQ    n+16(FP), CX
	MOVQ    tables+24(FP), DX
	MOVQ    offsets+32(FP), R8
	MOVQ    k+40(FP), R9
	MOVWLZX limit+48(FP), AX
	VPBROADCASTW AX, Z20
	VPXORQ  Z21, Z21, Z21
	TESTQ   CX, CX
	JZ      filtered

block:
	VPXORQ Z10, Z10, Z10
	VPXORQ Z11, Z11, Z11
	VPXORQ Z12, Z12, Z12
	VPXORQ Z13, Z13, Z13
	VPXORQ Z14, Z14, Z14
	VPXORQ Z15, Z15, Z15
	VPXORQ Z16, Z16, Z16
	VPXORQ Z17, Z17, Z17
	MOVQ   DX, R11
	XORQ   R10, R10

group:
	CMPQ      R10, R9
	JGE       compare
	VMOVDQU64 (R11), Z4
	MOVLQSX   (R8)(R10*4), R12
	ADDQ      SI, R12
	VMOVDQU64 (R12), Z5
	VMOVDQU64 64(R12), Z6
	VMOVDQU64 128(R12), Z7
	VMOVDQU64 192(R12), Z8
	VPERMB    Z4, Z5, Z0
	VPERMB    Z4, Z6, Z1
	VPERMB    Z4, Z7, Z2
	VPERMB    Z4, Z8, Z3
	VMOVDQU64 64(R11), Z4
	MOVLQSX   4(R8)(R10*4), R12
	ADDQ      SI, R12
	VMOVDQU64 (R12), Z5
	VMOVDQU64 64(R12), Z6
	VMOVDQU64 128(R12), Z7
	VMOVDQU64 192(R12), Z8
	VPERMB    Z4, Z5, Z5
	VPERMB    Z4, Z6, Z6
	VPERMB    Z4, Z7, Z7
	VPERMB    Z4, Z8, Z8
	VPADDUSB  Z5, Z0, Z0
	VPADDUSB  Z6, Z1, Z1
	VPADDUSB  Z7, Z2, Z2
	VPADDUSB  Z8, Z3, Z3
	VMOVDQU64 128(R11), Z4
	MOVLQSX   8(R8)(R10*4), R12
	ADDQ      SI, R12
	VMOVDQU64 (R12), Z5
	VMOVDQU64 64(R12), Z6
	VMOVDQU64 128(R12), Z7
	VMOVDQU64 192(R12), Z8
	VPERMB    Z4, Z5, Z5
	VPERMB    Z4, Z6, Z6
	VPERMB    Z4, Z7, Z7
	VPERMB    Z4, Z8, Z8
	VPADDUSB  Z5, Z0, Z0
	VPADDUSB  Z6, Z1, Z1
	VPADDUSB  Z7, Z2, Z2
	VPADDUSB  Z8, Z3, Z3
	VMOVDQU64 192(R11), Z4
	MOVLQSX   12(R8)(R10*4), R12
	ADDQ      SI, R12
	VMOVDQU64 (R12), Z5
	VMOVDQU64 64(R12), Z6
	VMOVDQU64 128(R12), Z7
	VMOVDQU64 192(R12), Z8
	VPERMB    Z4, Z5, Z5
	VPERMB    Z4, Z6, Z6
	VPERMB    Z4, Z7, Z7
	VPERMB    Z4, Z8, Z8
	VPADDUSB  Z5, Z0, Z0
	VPADDUSB  Z6, Z1, Z1
	VPADDUSB  Z7, Z2, Z2
	VPADDUSB  Z8, Z3, Z3
	VPUNPCKLBW Z21, Z0, Z4
	VPUNPCKHBW Z21, Z0, Z5
	VPUNPCKLBW Z21, Z1, Z6
	VPUNPCKHBW Z21, Z1, Z7
	VPADDW     Z4, Z10, Z10
	VPADDW     Z5, Z11, Z11
	VPADDW     Z6, Z12, Z12
	VPADDW     Z7, Z13, Z13
	VPUNPCKLBW Z21, Z2, Z4
	VPUNPCKHBW Z21, Z2, Z5
	VPUNPCKLBW Z21, Z3, Z6
	VPUNPCKHBW Z21, Z3, Z7
	VPADDW     Z4, Z14, Z14
	VPADDW     Z5, Z15, Z15
	VPADDW     Z6, Z16, Z16
	VPADDW     Z7, Z17, Z17
	ADDQ       $256, R11
	ADDQ       $4, R10
	JMP        group

compare:
	VPSUBUSW  Z20, Z10, Z10 // 0 where at most limit
	VPSUBUSW  Z20, Z11, Z11
	VPSUBUSW  Z20, Z12, Z12
	VPSUBUSW  Z20, Z13, Z13
	VPSUBUSW  Z20, Z14, Z14
	VPSUBUSW  Z20, Z15, Z15
	VPSUBUSW  Z20, Z16, Z16
	VPSUBUSW  Z20, Z17, Z17
	VPACKUSWB Z11, Z10, Z0
	VPACKUSWB Z13, Z12, Z1
	VPACKUSWB Z15, Z14, Z2
	VPACKUSWB Z17, Z16, Z3
	VPCMPEQB  Z21, Z0, K1
	VPCMPEQB  Z21, Z1, K2
	VPCMPEQB  Z21, Z2, K3
	VPCMPEQB  Z21, Z3, K4
	KMOVQ     K1, (DI)
	KMOVQ     K2, 8(DI)
	KMOVQ     K3, 16(DI)
	KMOVQ     K4, 24(DI)
	ADDQ      $256, SI
	ADDQ      $32, DI
	DECQ      CX
	JNZ       block

filtered:
	VZEROUPPER
	RET

// func filterAVX2(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16)
//
// Y0 and Y1 add four positions in bytes, Y2-Y5 those sums in words. A class with
// the top bit set looks nothing up in the first half of a table, one without it
// nothing in the second.
TEXT ·filterAVX2(SB), NOSPLIT, $0-50
	MOVQ    dst+0(FP), DI
	MOVQ    classes+8(FP), SI
	MOVQ    n+16(FP), CX
	MOVQ    tables+24(FP), DX
	MOVQ    offsets+32(FP), R8
	MOVQ    k+40(FP), R9
	MOVWLZX limit+48(FP), AX
	MOVQ    AX, X14
	VPBROADCASTW X14, Y14
	VPXOR   Y15, Y15, Y15
	MOVL    $0x80, AX
	MOVQ    AX, X13
	VPBROADCASTB X13, Y13
	TESTQ   CX, CX
	JZ      filtered2

block2:
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	MOVQ  DX, R11
	XORQ  R10, R10

group2:
	CMPQ     R10, R9
	JGE      compare2
	VPXOR    Y0, Y0, Y0
	VPXOR    Y1, Y1, Y1
	VBROADCASTI128 (R11), Y6
	VBROADCASTI128 16(R11), Y7
	MOVLQSX  (R8)(R10*4), R12
	ADDQ     SI, R12
	VMOVDQU  (R12), Y8
	VMOVDQU  32(R12), Y10
	VPXOR    Y13, Y8, Y9
	VPXOR    Y13, Y10, Y11
	VPSHUFB  Y8, Y6, Y8
	VPSHUFB  Y9, Y7, Y9
	VPSHUFB  Y10, Y6, Y10
	VPSHUFB  Y11, Y7, Y11
	VPOR     Y9, Y8, Y8
	VPOR     Y11, Y10, Y10
	VPADDUSB Y8, Y0, Y0
	VPADDUSB Y10, Y1, Y1
	VBROADCASTI128 32(R11), Y6
	VBROADCASTI128 48(R11), Y7
	MOVLQSX  4(R8)(R10*4), R12
	ADDQ     SI, R12
	VMOVDQU  (R12), Y8
	VMOVDQU  32(R12), Y10
	VPXOR    Y13, Y8, Y9
	VPXOR    Y13, Y10, Y11
	VPSHUFB  Y8, Y6, Y8
	VPSHUFB  Y9, Y7, Y9
	VPSHUFB  Y10, Y6, Y10
	VPSHUFB  Y11, Y7, Y11
	VPOR     Y9, Y8, Y8
	VPOR     Y11, Y10, Y10
	VPADDUSB Y8, Y0, Y0
	VPADDUSB Y10, Y1, Y1
	VBROADCASTI128 64(R11), Y6
	VBROADCASTI128 80(R11), Y7
	MOVLQSX  8(R8)(R10*4), R12
	ADDQ     SI, R12
	VMOVDQU  (R12), Y8
	VMOVDQU  32(R12), Y10
	VPXOR    Y13, Y8, Y9
	VPXOR    Y13, Y10, Y11
	VPSHUFB  Y8, Y6, Y8
	VPSHUFB  Y9, Y7, Y9
	VPSHUFB  Y10, Y6, Y10
	VPSHUFB  Y11, Y7, Y11
	VPOR     Y9, Y8, Y8
	VPOR     Y11, Y10, Y10
	VPADDUSB Y8, Y0, Y0
	VPADDUSB Y10, Y1, Y1
	VBROADCASTI128 96(R11), Y6
	VBROADCASTI128 112(R11), Y7
	MOVLQSX  12(R8)(R10*4), R12
	ADDQ     SI, R12
	VMOVDQU  (R12), Y8
	VMOVDQU  32(R12), Y10
	VPXOR    Y13, Y8, Y9
	VPXOR    Y13, Y10, Y11
	VPSHUFB  Y8, Y6, Y8
	VPSHUFB  Y9, Y7, Y9
	VPSHUFB  Y10, Y6, Y10
	VPSHUFB  Y11, Y7, Y11
	VPOR     Y9, Y8, Y8
	VPOR     Y11, Y10, Y10
	VPADDUSB Y8, Y0, Y0
	VPADDUSB Y10, Y1, Y1
	VPUNPCKLBW Y15, Y0, Y8
	VPUNPCKHBW Y15, Y0, Y9
	VPUNPCKLBW Y15, Y1, Y10
	VPUNPCKHBW Y15, Y1, Y11
	VPADDW     Y8, Y2, Y2
	VPADDW     Y9, Y3, Y3
	VPADDW     Y10, Y4, Y4
	VPADDW     Y11, Y5, Y5
	ADDQ       $128, R11
	ADDQ       $4, R10
	JMP        group2

compare2:
	VPSUBUSW  Y14, Y2, Y2 // 0 where at most limit
	VPSUBUSW  Y14, Y3, Y3
	VPSUBUSW  Y14, Y4, Y4
	VPSUBUSW  Y14, Y5, Y5
	VPACKUSWB Y3, Y2, Y2
	VPACKUSWB Y5, Y4, Y4
	VPCMPEQB  Y15, Y2, Y2
	VPCMPEQB  Y15, Y4, Y4
	VPMOVMSKB Y2, AX
	MOVL      AX, (DI)
	VPMOVMSKB Y4, AX
	MOVL      AX, 4(DI)
	ADDQ      $64, SI
	ADDQ      $8, DI
	DECQ      CX
	JNZ       block2

filtered2:
	VZEROUPPER
	RET

// func stringsVBMI(dst *uint16, src *byte, n int, stored *[1 << 18]uint64, index *[64]byte)
TEXT ·stringsVBMI(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stored+24(FP), BX
	MOVQ index+32(FP), DX
	VMOVDQU64    (DX), Z0
	MOVL         $31, AX
	VPBROADCASTD AX, Z6
	MOVL         $1, AX
	VPBROADCASTD AX, Z7
	TESTQ CX, CX
	JZ    looked

look:
	VMOVDQU    (SI), Y1
	VPERMB     Z1, Z0, Z2       // a string in each lane
	VPSRLD     $5, Z2, Z3
	KXNORW     K1, K1, K1
	VPXORD     Z4, Z4, Z4
	VPGATHERDD (BX)(Z3*4), K1, Z4
	VPANDD     Z6, Z2, Z2
	VPSRLVD    Z2, Z4, Z4
	VPTESTMD   Z7, Z4, K2
	KMOVW      K2, AX
	MOVW       AX, (DI)
	ADDQ       $16, SI
	ADDQ       $2, DI
	DECQ       CX
	JNZ        look

looked:
	VZEROUPPER
	RET

// func stringsAVX2(dst *uint8, src *byte, n int, stored *[1 << 18]uint64, index *[32]byte)
TEXT ·stringsAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stored+24(FP), BX
	MOVQ index+32(FP), DX
	VMOVDQU      (DX), Y0
	MOVL         $31, AX
	MOVQ         AX, X6
	VPBROADCASTD X6, Y6
	TESTQ CX, CX
	JZ    looked2

look2:
	VBROADCASTI128 (SI), Y1
	VPSHUFB    Y0, Y1, Y2       // a string in each lane
	VPSRLD     $5, Y2, Y3
	VPCMPEQD   Y5, Y5, Y5
	VPXOR      Y4, Y4, Y4
	VPGATHERDD Y5, (BX)(Y3*4), Y4
	VPANDN     Y6, Y2, Y2       // 31 - bit
	VPSLLVD    Y2, Y4, Y4       // the bit becomes the sign
	VMOVMSKPS  Y4, AX
	MOVB       AX, (DI)
	ADDQ       $8, SI
	ADDQ       $1, DI
	DECQ       CX
	JNZ        look2

looked2:
	VZEROUPPER
	RET
