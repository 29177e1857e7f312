package synchrony

import (
	"math/bits"
	"slices"
)

// lookupKernel counts by AVX2, which has no count of bits. A row is a list of those
// of its groups of four intervals in which it is active at all. For each the common
// bits with 32 columns are looked up at once, by VPSHUFB, in a table of the 16
// values that a column can have there (after the idea of Mula 2008, and of product
// quantisation, André et al. 2015), and summed in bytes.
var lookupKernel = kernel{load: loadNibbles, prepare: listNibbles, compare: compareLookups}

const (
	// An entry of a row is the number of its group from entryIndex bits on, and the
	// offset of the table below that.
	entryIndex = 9
	tableSize  = 32
	// entriesAtOnce are read in one go; lists are filled up with entries that count
	// nothing.
	entriesAtOnce = 4
	// most is the largest sum: a row that is always active is none.
	most = maxIntervals - 1
)

// commonBits is, for the four bits of a row and those of a column, how many are
// common; each table is there twice, for both halves of a register.
var commonBits = func() (tables [16 * tableSize]uint8) {
	for row := range 16 {
		for column := range tableSize {
			tables[row*tableSize+column] = uint8(bits.OnesCount(uint(row & column & 15)))
		}
	}
	return tables
}()

// lookupMasks compares n rows, whose entries end at entries[ends[0]] and so on; each
// has a multiple of entriesAtOnce. Each bit of a mask says that the sum is at least
// the row's limit.
//
//go:noescape
func lookupMasks(masks *uint64, entries, ends *uint32, n int, block *uint8, limits *uint16, tables *uint8)

// loadNibbles spreads the bits of hosts over bytes.
func loadNibbles(b *block, hosts [][]uint64, words int) {
	if len(b.nibbles) != columns*16*words {
		b.nibbles = make([]uint8, columns*16*words)
	}
	clear(b.nibbles)
	for c, row := range hosts {
		for w, v := range row {
			for part := (*[16 * columns]uint8)(b.nibbles[w*16*columns:])[c:]; v != 0; v >>= 4 {
				part[0] = uint8(v & 15)
				part = part[min(columns, len(part)):]
			}
		}
	}
}

// listNibbles lists the entries of each row.
func listNibbles(s *rowSet) {
	s.entries, s.ends = s.entries[:0], s.ends[:0]
	for from := 0; from < len(s.rows); from += s.words {
		for w, v := range s.rows[from : from+s.words] {
			s.entries = slices.Grow(s.entries, 16)
			// One bit for each group that is not empty.
			groups := v | v>>1
			for groups = (groups | groups>>2) & 0x1111_1111_1111_1111; groups != 0; groups &= groups - 1 {
				at := bits.TrailingZeros64(groups)
				s.entries = append(s.entries, uint32((w*16+at/4)<<entryIndex)|uint32(v>>at&15)*tableSize)
			}
		}
		for len(s.entries)%entriesAtOnce != 0 {
			s.entries = append(s.entries, 0)
		}
		s.ends = append(s.ends, uint32(len(s.entries)))
	}
}

func compareLookups(masks []uint64, s *rowSet, b *block, limits []uint64) {
	if len(b.nibbles) < columns*16*s.words || len(s.ends) < len(masks) || len(limits) < len(masks) {
		panic("a block or rows that were not prepared")
	}
	s.limits = s.limits[:0]
	for _, l := range limits[:len(masks)] {
		s.limits = append(s.limits, uint16(min(l, most)))
	}
	if len(masks) > 0 && len(s.entries) > 0 {
		lookupMasks(&masks[0], &s.entries[0], &s.ends[0], len(masks), &b.nibbles[0], &s.limits[0], &commonBits[0])
	} else {
		clear(masks)
	}
	for r := range masks {
		if limits[r] > most {
			masks[r] = 0
		}
	}
}
