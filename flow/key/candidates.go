package key

import (
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Meter counts the tuples that a key of one hash may represent. It caches what
// the keys of a long list have in common, and is not safe for concurrent use.
type Meter struct {
	hash    Hash
	sampled map[string][]uint64 // see residues
}

// NewMeter is a meter for keys of h.
func NewMeter(h Hash) *Meter { return &Meter{hash: h, sampled: map[string][]uint64{}} }

// maxWraps is how often a product may wrap at 2^64 and still be counted
// exactly: nine bytes, all of an IPv4 mask, wrap less often than this.
const maxWraps = 255

// Candidates is the number of tuples of a mask that the reader cannot exclude
// for key k: its protection. Linear spreads evenly, so that is space / 2^b. For
// Product it is exact over IPv4, and over IPv6 an estimate on the low side. For
// ProductMod it is estimated from a fixed sample. The tuple asked about is one
// of them, so the result is at least 1.
func (m *Meter) Candidates(r Reader, mask Mask, k K) float64 {
	positions := r.possibleValues(mask)
	space := spaceOf(positions)
	switch m.hash.Kind {
	case Linear:
		return max(1, math.Round(space/math.Exp2(float64(m.hash.Bits))))
	case ProductMod:
		return max(1, math.Round(m.modShare(positions, uint64(k))*space))
	}
	if wraps, known := mostWraps(positions); known {
		n := 0.0
		for hi := range wraps + 1 {
			n += countProducts(positions, hi, uint64(k))
		}
		return max(1, n)
	}
	return max(1, math.Round(evenShare(positions, uint64(k))*space))
}

// mostWraps is how often the largest product of the positions exceeds 2^64.
func mostWraps(positions [][]byte) (wraps uint64, known bool) {
	p := big.NewInt(1)
	for _, values := range positions {
		p.Mul(p, new(big.Int).SetUint64(byteFactor(slices.Max(values))))
	}
	p.Rsh(p, 64)
	return p.Uint64(), p.IsUint64() && p.Uint64() <= maxWraps
}

// countProducts is the number of ways to choose one value per position so that
// the product, zeros counted as one, is hi * 2^64 + lo: over every divisor, the
// ways to make it from half of the positions, times the ways to make what is
// left from the others.
func countProducts(positions [][]byte, hi, lo uint64) float64 {
	n, smooth := factorise(hi, lo)
	if !smooth {
		return 0
	}
	half := len(positions) / 2
	left, right := n.countWays(positions[:half]), n.countWays(positions[half:])
	sum := 0.0
	for d, l := range left {
		sum += l * right[len(right)-1-d]
	}
	return sum
}

// factorised is a factorised number. A divisor of it is the list of its exponents,
// and its index is that list read as digits; the factorised's own index is last.
type factorised struct{ primes, exponents []int }

// countWays is, for each divisor, how many choices of one value per position make it.
func (n *factorised) countWays(positions [][]byte) []float64 {
	divisors := 1
	for _, e := range n.exponents {
		divisors *= e + 1
	}
	made := make([]float64, divisors)
	made[0] = 1
	digits := make([]int, len(n.primes))
	for _, values := range positions {
		var times [256]float64
		for _, v := range values {
			times[byteFactor(v)]++
		}
		var steps []step
		for f, t := range times {
			if s, divides := n.makeStep(f, t); t > 0 && divides {
				steps = append(steps, s)
			}
		}
		next := make([]float64, divisors)
		for d, ways := range made {
			if ways == 0 {
				continue
			}
			for i, rest := 0, d; i < len(digits); i++ {
				digits[i] = rest % (n.exponents[i] + 1)
				rest /= n.exponents[i] + 1
			}
			for i := range steps {
				if s := &steps[i]; s.fitsLimits(digits, n.exponents) {
					next[d+s.by] += s.times * ways
				}
			}
		}
		made = next
	}
	return made
}

// step is a factor: how it moves a divisor's index, its exponents, and how many
// values of a position are it.
type step struct {
	by    int
	exps  []exponent
	times float64
}

type exponent struct{ digit, by int }

func (n *factorised) makeStep(f int, times float64) (s step, divides bool) {
	s.times = times
	stride := 1
	for i, p := range n.primes {
		e := 0
		for ; f > 0 && f%p == 0; f /= p {
			e++
		}
		if e > 0 {
			s.exps = append(s.exps, exponent{i, e})
		}
		if e > n.exponents[i] {
			return s, false
		}
		s.by += e * stride
		stride *= n.exponents[i] + 1
	}
	return s, f == 1
}

func (s *step) fitsLimits(digits, limits []int) bool {
	for _, e := range s.exps {
		if digits[e.digit]+e.by > limits[e.digit] {
			return false
		}
	}
	return true
}

// factorise finds the primes of hi * 2^64 + lo; smooth is false if one exceeds
// 255, so that no product of bytes is that number.
func factorise(hi, lo uint64) (n factorised, smooth bool) {
	if hi == 0 && lo == 0 {
		return n, false
	}
	for p := uint64(2); p < 256; p++ { // composite p never divide the rest
		e := 0
		for hi != 0 || lo != 1 {
			q, rem := bits.Div64(hi%p, lo, p)
			if rem != 0 {
				break
			}
			hi, lo = hi/p, q
			e++
		}
		if e > 0 {
			n.primes, n.exponents = append(n.primes, int(p)), append(n.exponents, e)
		}
	}
	return n, hi == 0 && lo == 1
}

// evenShare estimates the share of the space whose product is k modulo 2^64:
// exact for the number of trailing zero bits, even among the numbers that have
// as many. Products of bytes have small primes only, so the true share of a k
// that is such a product is larger.
func evenShare(positions [][]byte, k uint64) float64 {
	const none = 64 // trailing zeros of 0
	chance := make([]float64, none+1)
	chance[0] = 1
	for _, values := range positions {
		next := make([]float64, none+1)
		for _, v := range values {
			zeros := bits.TrailingZeros64(byteFactor(v))
			for z, c := range chance {
				next[min(z+zeros, none)] += c / float64(len(values))
			}
		}
		chance = next
	}
	zeros := bits.TrailingZeros64(k)
	if zeros == none {
		return chance[none]
	}
	return chance[zeros] / math.Exp2(float64(none-1-zeros))
}

// modShare estimates the share of the space that has key k modulo m from a
// sample. With fewer than ten hits it falls back to an even spread.
func (m *Meter) modShare(positions [][]byte, k uint64) float64 {
	modulus := m.hash.Modulus
	var free [][]byte
	fixed := uint64(1) % modulus
	for _, values := range positions {
		if len(values) > 1 {
			free = append(free, values)
		} else {
			fixed = mulMod(fixed, byteFactor(values[0]), modulus)
		}
	}
	sample := m.sampleResidues(free)
	hits := 0
	if inverse := new(big.Int).ModInverse(new(big.Int).SetUint64(fixed), new(big.Int).SetUint64(modulus)); inverse != nil {
		want := mulMod(k, inverse.Uint64(), modulus)
		first, _ := slices.BinarySearch(sample, want)
		for ; first < len(sample) && sample[first] == want; first++ {
			hits++
		}
	} else {
		for _, s := range sample {
			if mulMod(s, fixed, modulus) == k {
				hits++
			}
		}
	}
	if hits >= 10 {
		return float64(hits) / float64(len(sample))
	}
	return 1 / float64(modulus)
}

// sampleResidues samples the product of the positions modulo the modulus, in
// ascending order: with a fixed seed, so that a question shows the same
// candidates every time, and once for all keys of a list.
func (m *Meter) sampleResidues(positions [][]byte) []uint64 {
	var name []byte
	for _, values := range positions {
		name = append(append(name, byte(len(values)-1)), values...)
	}
	if s, done := m.sampled[string(name)]; done {
		return s
	}
	const samples = 1 << 18
	rng := rand.New(rand.NewPCG(2006, 7))
	s := make([]uint64, samples)
	for i := range s {
		p := uint64(1) % m.hash.Modulus
		for _, values := range positions {
			p = mulMod(p, byteFactor(values[rng.IntN(len(values))]), m.hash.Modulus)
		}
		s[i] = p
	}
	slices.Sort(s)
	m.sampled[string(name)] = s
	return s
}

func mulMod(a, b, m uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return bits.Rem64(hi, lo, m)
}
