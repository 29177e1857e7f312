package synchrony

import "math/bits"

// columns is the number of hosts that a kernel compares with a row in one go.
const columns = 64

// block is columns hosts as a kernel reads them.
type block struct {
	words   []uint64 // the hosts' first words, then their second words, and so on
	nibbles []uint8  // likewise of four bits, one a byte
}

// rowSet is rows as a kernel reads them: words words a row, and what it makes of
// them.
type rowSet struct {
	rows  []uint64
	words int

	entries []uint32
	ends    []uint32 // of each row among entries
	limits  []uint16
}

// kernel finds pairs that are active together often.
type kernel struct {
	// load fills b with hosts, at most columns of them, in blocks of words words.
	load func(b *block, hosts [][]uint64, words int)
	// prepare is called when s.rows changed.
	prepare func(s *rowSet)
	// compare sets bit c of masks[r] if row r and column c are active together in
	// at least limits[r] intervals.
	compare func(masks []uint64, s *rowSet, b *block, limits []uint64)
}

// wordKernel is a kernel that needs words only.
func wordKernel(compare func(masks, rows []uint64, words int, block, limits []uint64)) kernel {
	return kernel{
		load:    loadWords,
		prepare: func(*rowSet) {},
		compare: func(masks []uint64, s *rowSet, b *block, limits []uint64) {
			compare(masks, s.rows, s.words, b.words, limits)
		},
	}
}

func loadWords(b *block, hosts [][]uint64, words int) {
	if len(b.words) != columns*words {
		b.words = make([]uint64, columns*words)
	}
	clear(b.words)
	for c, row := range hosts {
		for w, v := range row {
			b.words[w*columns+c] = v
		}
	}
}

// comparePortable is the comparison without vector code.
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
