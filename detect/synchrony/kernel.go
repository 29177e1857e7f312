package synchrony

import "math/bits"

// columns is the number of hosts that a kernel compares with a row in one go.
const columns = 64

// compare sets bit c of masks[r] if row r and column c are active together in at
// least limits[r] intervals. rows has words words a row; block holds the
// columns' first words, then their second words, and so on.
type compare func(masks, rows []uint64, words int, block, limits []uint64)

// comparePortable is compare without vector code.
func comparePortable(masks, rows []uint64, words int, block, limits []uint64) {
	for r := range masks {
		var n [columns]uint64
		for w, a := range rows[r*words : (r+1)*words] {
			for c, b := range (*[columns]uint64)(block[w*columns:]) {
				n[c] += uint64(bits.OnesCount64(a & b))
			}
		}
		masks[r] = 0
		for c, v := range n {
			if v >= limits[r] {
				masks[r] |= 1 << c
			}
		}
	}
}
