package synchrony

import "golang.org/x/sys/cpu"

// dotsVPDPBUSD reads rowsOfDots*4*steps bytes of rows and columns*4*steps of block;
// steps is positive.
//
//go:noescape
func dotsVPDPBUSD(out *int32, rows *uint8, steps int, block *uint8)

func dotsAVX512(out *[rowsOfDots * columns]int32, rows []uint8, steps int, block []uint8) {
	_, _ = rows[rowsOfDots*stepBytes*steps-1], block[columns*stepBytes*steps-1]
	dotsVPDPBUSD(&out[0], &rows[0], steps, &block[0])
}

// dotsVPMADDUBSW is the same by AVX2; the values are at most MostShare.
//
//go:noescape
func dotsVPMADDUBSW(out *int32, rows *uint8, steps int, block *uint8)

func dotsAVX2(out *[rowsOfDots * columns]int32, rows []uint8, steps int, block []uint8) {
	_, _ = rows[rowsOfDots*stepBytes*steps-1], block[columns*stepBytes*steps-1]
	dotsVPMADDUBSW(&out[0], &rows[0], steps, &block[0])
}

func fastestDots() dots {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI {
		return dotsAVX512
	}
	if cpu.X86.HasAVX2 {
		return dotsAVX2
	}
	return dotsPortable
}
