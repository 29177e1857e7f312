//go:build !amd64

package match

func isSupported(k Kernel) bool { return k == Portable }

func classifyVBMI(dst, src *byte, n int, table *[256]byte) {
	panic("match: kernel not supported on this platform")
}

func filterVBMI(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16) {
	panic("match: kernel not supported on this platform")
}

func filterAVX2(dst *uint64, classes *byte, n int, tables *byte, offsets *int32, k int, limit uint16) {
	panic("match: kernel not supported on this platform")
}

func stringsVBMI(dst *uint16, src *byte, n int, stored *[grams / 64]uint64, index *[64]byte) {
	panic("match: kernel not supported on this platform")
}

func stringsAVX2(dst *uint8, src *byte, n int, stored *[grams / 64]uint64, index *[32]byte) {
	panic("match: kernel not supported on this platform")
}
