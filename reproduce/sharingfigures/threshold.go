package sharingfigures

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
)

// field is the modulus of the shares, the Mersenne prime 2^61-1.
const field = 1<<61 - 1

func mulField(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return bits.Rem64(hi, lo, field)
}

// powField is a^n; with n = field-2 it is the inverse.
func powField(a, n uint64) uint64 {
	r := uint64(1)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			r = mulField(r, a)
		}
		a = mulField(a, a)
	}
	return r
}

// thresholdGroup is over-threshold private set intersection of many parties (Mahdavi et
// al., "Practical Over-Threshold Multi-Party Private Set Intersection", ACSAC 2020), in
// its form for parties who share a key that the aggregator does not have: an element is a
// polynomial with 0 at 0, whose other coefficients follow from key and element; party i
// sends its value at i, in a bin that follows from the element, among random ones; the
// aggregator tries which values of any Threshold parties lie on one polynomial.
type thresholdGroup struct {
	key       [32]byte
	threshold int
	bins      int
}

func newThresholdGroup(threshold, elements int) *thresholdGroup {
	g := &thresholdGroup{threshold: threshold, bins: max(1, int(float64(elements)/math.Log2(float64(elements)+2)))}
	rand.Read(g.key[:]) // never fails
	return g
}

func (g *thresholdGroup) derive(label byte, element []byte) uint64 {
	mac := hmac.New(sha256.New, g.key[:])
	mac.Write([]byte{label})
	mac.Write(element)
	return binary.BigEndian.Uint64(mac.Sum(nil)) % field
}

// share is what a party sends: bins of equally many values; own are the elements' indices,
// -1 where the value is random.
type share struct {
	values [][]uint64
	own    [][]int
}

// share makes the message of party number x (from 1) about its elements.
func (g *thresholdGroup) share(x uint64, elements [][]byte, size int) (s share, fits bool) {
	s = share{make([][]uint64, g.bins), make([][]int, g.bins)}
	for i, e := range elements {
		value, power := uint64(0), x
		for j := 1; j < g.threshold; j++ {
			value = (value + mulField(g.derive(byte(j), e), power)) % field
			power = mulField(power, x)
		}
		b := g.derive(0, e) % uint64(g.bins)
		s.values[b], s.own[b] = append(s.values[b], value), append(s.own[b], i)
	}
	for b := range s.values {
		if len(s.values[b]) > size {
			return s, false
		}
		for len(s.values[b]) < size {
			var r [8]byte
			rand.Read(r[:])
			s.values[b], s.own[b] = append(s.values[b], binary.BigEndian.Uint64(r[:])%field), append(s.own[b], -1)
		}
	}
	return s, true
}

// matches is the aggregator's work: for each party the places (bin, position) of values
// that lie on a polynomial with those of enough others.
func (g *thresholdGroup) matches(all []share) []map[[2]int]bool {
	out := make([]map[[2]int]bool, len(all))
	for i := range out {
		out[i] = map[[2]int]bool{}
	}
	chooseParties(len(all), g.threshold, nil, func(parties []int) {
		weights := weightsAtZero(parties)
		at := make([]int, len(parties))
		for b := range g.bins {
			g.tryBin(all, parties, weights, b, 0, 0, at, out)
		}
	})
	return out
}

func (g *thresholdGroup) tryBin(all []share, parties []int, weights []uint64, bin, depth int, sum uint64, at []int, out []map[[2]int]bool) {
	for i, v := range all[parties[depth]].values[bin] {
		at[depth] = i
		s := (sum + mulField(weights[depth], v)) % field
		if depth+1 < len(parties) {
			g.tryBin(all, parties, weights, bin, depth+1, s, at, out)
			continue
		}
		if s == 0 {
			for d, p := range parties {
				out[p][[2]int{bin, at[d]}] = true
			}
		}
	}
}

func chooseParties(n, k int, chosen []int, use func([]int)) {
	if len(chosen) == k {
		use(chosen)
		return
	}
	from := 0
	if len(chosen) > 0 {
		from = chosen[len(chosen)-1] + 1
	}
	for i := from; i < n; i++ {
		chooseParties(n, k, append(chosen[:len(chosen):len(chosen)], i), use)
	}
}

// weightsAtZero are Lagrange's, for parties whose numbers are one more than listed.
func weightsAtZero(parties []int) []uint64 {
	out := make([]uint64, len(parties))
	for i, p := range parties {
		w := uint64(1)
		for j, q := range parties {
			if i != j {
				xi, xj := uint64(p+1), uint64(q+1)
				w = mulField(w, mulField(xj, powField((xj+field-xi)%field, field-2)))
			}
		}
		out[i] = w
	}
	return out
}
