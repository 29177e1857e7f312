//go:build !amd64

package match

func supported(k Kernel) bool { return k == Portable }

func classifyVBMI(dst, src *byte, n int, table *[256]byte) { panic("match: no such kernel here") }

func filterVBMI(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16) {
	panic("match: no such kernel here")
}

func filterAVX2(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16) {
	panic("match: no such kernel here")
}

func stringsVBMI(dst *uint16, src *byte, n int, stored *[grams / 64]uint64, index *[64]byte) {
	panic("match: no such kernel here")
}

func stringsAVX2(dst *uint8, src *byte, n int, stored *[grams / 64]uint64, index *[32]byte) {
	panic("match: no such kernel here")
}
