package match

import "golang.org/x/sys/cpu"

func isSupported(k Kernel) bool {
	switch k {
	case AVX2:
		return cpu.X86.HasAVX2
	case VBMI:
		return cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512F
	}
	return true
}

// classify replaces each byte of src by its class: 64*n bytes.
//
//go:noescape
func classifyVBMI(dst, src *byte, n int, table *[256]byte)

// filterVBMI sets, for each of 256*n windows, bit i%64 of dst[i/64] where the
// sum over j < k of tables[64*j + classes[i+offsets[j]]] is at most limit. k is
// a multiple of 4 and at most 128; four terms in a row saturate at 255.
//
//go:noescape
func filterVBMI(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16)

// filterAVX2 is filterVBMI for 64*n windows and 32 bytes of table per term, of
// which a class c looks up c, or 16 + c&15 where its top bit is set.
//
//go:noescape
func filterAVX2(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16)

// stringsVBMI sets bit j of dst[i] where the three bytes at src[16*i+j], big
// endian, are a bit that is set in stored; i < n, j < 16. It reads 32 bytes for
// each i. index picks the bytes of the lanes.
//
//go:noescape
func stringsVBMI(dst *uint16, src *byte, n int, stored *[grams / 64]uint64, index *[64]byte)

// stringsAVX2 is stringsVBMI for j < 8 with 16 bytes read for each i.
//
//go:noescape
func stringsAVX2(dst *uint8, src *byte, n int, stored *[grams / 64]uint64, index *[32]byte)
