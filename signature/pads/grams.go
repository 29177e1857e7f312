package pads

// Grams is the set of short strings that occur in normal traffic. It may hold a
// string that was never added, with a probability of about 1 in 100 when full;
// it never misses one that was.
type Grams struct {
	bits []uint64
	n    int
}

// gramLen is long enough that a worm shares no string of that length with
// normal traffic by chance, and short enough to survive small differences.
const gramLen = 8

// gramBits is 2^27 (16 MB): two hash functions for 8 million strings.
const gramBits = 1 << 27

// NewGrams is an empty set.
func NewGrams() *Grams { return &Grams{bits: make([]uint64, gramBits/64)} }

// Add adds all strings of payload.
func (g *Grams) Add(payload []byte) {
	eachString(payload, gramLen, func(_ int, h uint64) {
		a, b := h%gramBits, (h>>32)%gramBits
		g.bits[a/64] |= 1 << (a % 64)
		g.bits[b/64] |= 1 << (b % 64)
		g.n++
	})
}

// Len counts the strings added, copies included.
func (g *Grams) Len() int { return g.n }

func (g *Grams) hasHash(h uint64) bool {
	a, b := h%gramBits, (h>>32)%gramBits
	return g.bits[a/64]>>(a%64)&1 == 1 && g.bits[b/64]>>(b%64)&1 == 1
}

// blockWindows marks the starts of windows of width bytes of s of which half or
// more is covered by strings of normal traffic. A nil set blocks none.
func (g *Grams) blockWindows(blocked []bool, s []byte, width int) {
	if g == nil {
		return
	}
	normal := g.Covered(s)
	in := 0
	for at := range s {
		if normal[at] {
			in++
		}
		if at >= width && normal[at-width] {
			in--
		}
		if a := at - width + 1; a >= 0 && 2*in >= width {
			blocked[a] = true
		}
	}
}

// Covered marks the bytes of s that lie in strings of normal traffic. A nil
// set covers none.
func (g *Grams) Covered(s []byte) []bool {
	normal := make([]bool, len(s))
	if g == nil {
		return normal
	}
	eachString(s, gramLen, func(at int, h uint64) {
		if g.hasHash(h) {
			for i := at; i < at+gramLen; i++ {
				normal[i] = true
			}
		}
	})
	return normal
}

// eachString calls f with a hash of every k-byte string of s (k <= 8).
func eachString(s []byte, k int, f func(at int, h uint64)) {
	var v uint64
	mask := ^uint64(0) >> (64 - 8*k)
	for i, b := range s {
		v = (v<<8 | uint64(b)) & mask
		if i >= k-1 {
			f(i-k+1, mixBits(v))
		}
	}
}

// mixBits spreads v over 64 bits (the finaliser of splitmix64).
func mixBits(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}
