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

func fastestDots() dots {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI {
		return dotsAVX512
	}
	return dotsPortable
}
