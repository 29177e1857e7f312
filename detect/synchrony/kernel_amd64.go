package synchrony

import "golang.org/x/sys/cpu"

// compareVPOPCNT compares n rows, by AVX-512 with VPOPCNTDQ. It reads n*words words
// of rows, 64*words of block, and n limits, and writes n masks.
//
//go:noescape
func compareVPOPCNT(masks, rows *uint64, n, words int, block, limits *uint64)

func compareAVX512(masks, rows []uint64, words int, block, limits []uint64) {
	if len(masks) == 0 {
		return
	}
	_, _, _ = rows[len(masks)*words-1], block[columns*words-1], limits[len(masks)-1]
	compareVPOPCNT(&masks[0], &rows[0], len(masks), words, &block[0], &limits[0])
}

func fastestKernel() kernel {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VPOPCNTDQ {
		return wordKernel(compareAVX512)
	}
	if cpu.X86.HasAVX2 {
		return lookupKernel
	}
	return wordKernel(comparePortable)
}
