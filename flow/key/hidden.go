package key

import (
	"math"
	"net/netip"
	"slices"
)

// Hidden is how well the keys of one question hide an address from a reader with
// priors: one who knows the services asked about, guesses which tuples are about
// one host or about hosts of one small network, and knows how those differ. What
// is left unknown to it is where that network is (docs/explanation/asking.md).
type Hidden struct {
	// Tuples are those whose addresses are taken to be related: indices into the
	// list given, in ascending order.
	Tuples []int
	// Candidates is the number of addresses (prefixes, if no tuple has a longer
	// one) that the reader cannot exclude, at least 1.
	Candidates float64
	// Share is the part of all addresses that the keys leave possible: a witness
	// with n different addresses in its log expects n * Share of them to fit by
	// chance, beside the true one if it has seen that.
	Share float64
}

// relatedBits are the first bits of two addresses that must agree for a reader to
// guess that they belong together: a small network.
func relatedBits(f AddressFamily) int {
	if f == IPv6 {
		return 64
	}
	return 24
}

// Network names the small network of a tuple's address: tuples of one network are
// taken to be related. Ok is false without an address.
func (t Tuple) Network() (p netip.Prefix, ok bool) {
	if t.Mask.Family == NoAddr {
		return p, false
	}
	p, err := t.Addr.Prefix(min(int(t.Mask.Prefix), relatedBits(t.Mask.Family)))
	return p, err == nil
}

// HiddenAddresses groups the tuples of one question that have an address, and says
// how well each group is hidden. All are asked with the hash h under the salts of
// one epoch (OneShotSalt).
func HiddenAddresses(h Hash, epoch string, tuples []Tuple) []Hidden {
	var out []Hidden
	meter := NewMeter(h)
	groups := groupRelated(tuples)
	for _, related := range groups {
		g := Hidden{Tuples: related}
		some := make([]Tuple, len(related))
		for i, at := range related {
			some[i] = tuples[at]
		}
		if h.Kind == Linear {
			g.Share = residueShare(h, epoch, some, maxResidues/len(groups))
			g.Candidates = max(1, math.Round(plausibleAddresses(some)*g.Share))
		} else {
			// The factors of the services and of the last byte are known, so each
			// key gives the product of the same other bytes: nothing adds up.
			g.Candidates = math.Inf(1)
			for i := range some {
				k, err := NewKeyer(some[i].Mask, Out, h, Salt{})
				if err != nil {
					continue // of no valid mask: it cannot be asked
				}
				g.Candidates = min(g.Candidates, meter.Candidates(Reader{Service: &some[i]}, some[i].Mask, k.Tuple(some[i])))
			}
			g.Share = g.Candidates / plausibleAddresses(some)
		}
		out = append(out, g)
	}
	return out
}

// groupRelated lists the tuples by network; one whose prefix is shorter than a
// network takes those inside it into its group.
func groupRelated(tuples []Tuple) (groups [][]int) {
	order := make([]int, 0, len(tuples))
	for i := range tuples {
		if tuples[i].Mask.Family != NoAddr {
			order = append(order, i)
		}
	}
	network := func(i int) netip.Prefix { p, _ := tuples[i].Network(); return p }
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := network(a), network(b)
		if c := p.Addr().Compare(q.Addr()); c != 0 {
			return c
		}
		return p.Bits() - q.Bits()
	})
	var outer netip.Prefix
	for _, i := range order {
		p := network(i)
		if len(groups) == 0 || !outer.Contains(p.Addr()) {
			groups, outer = append(groups, nil), p
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], i)
	}
	for _, g := range groups {
		slices.Sort(g)
	}
	return groups
}

// plausible6 is how many IPv6 addresses or prefixes a reader is assumed to hold
// possible: a list, since the space itself cannot be tried.
const plausible6 = 1 << 32

// plausibleAddresses is the number of addresses that a reader without other
// knowledge holds possible for the group: all of IPv4 unicast. Where one of the
// tuples is a short prefix, only as many as there are prefixes of that length,
// since the rest is taken to be known.
func plausibleAddresses(tuples []Tuple) float64 {
	m := Mask{Family: tuples[0].Mask.Family, Prefix: tuples[0].Mask.Prefix}
	for i := range tuples {
		m.Prefix = min(m.Prefix, tuples[i].Mask.Prefix)
	}
	n := Reader{}.Space(m)
	if m.Family == IPv6 {
		n = min(n, plausible6)
	}
	return n
}

// maxResidues bounds the work on all groups: residues tried, times tuples. Of large
// keys all residues are tried; of small ones, or in long lists, a sample, of at least
// minResidues for each group.
const (
	maxResidues = 1 << 22
	minResidues = 512
)

// residueShare is the part of all residues modulo the prime that an address's sum
// may have so that every tuple gets its key, given what each adds to it. A key has
// the low bits of the sum; the next one, whose known difference is added modulo the
// prime, reveals no more than whether that passed the prime. Work bounds the residues
// tried times the tuples.
func residueShare(h Hash, epoch string, tuples []Tuple, work int) float64 {
	salt := OneShotSalt(tuples[0].Mask, epoch)
	a := Coefficients(salt)
	sums := make([]uint64, 0, len(tuples))
	for _, t := range tuples {
		sums = append(sums, linearSum(&a, t))
	}
	slices.Sort(sums)
	sums = slices.Compact(sums)
	low := uint64(1)<<h.Bits - 1
	first := sums[0] & low
	all := uint64(1) << (MaxBits - h.Bits) // residues that have the first key
	if len(sums) == 1 {
		return max(1, float64(all)) / prime
	}
	stride := max(1, all/uint64(max(work/len(sums), minResidues)))
	tried, fit := 0.0, 0.0
	for j := (sums[0] >> h.Bits) % stride; j < all; j += stride { // the true one is among them
		v := first | j<<h.Bits
		if v >= prime {
			continue
		}
		tried++
		if fitsAll(v, sums, low) {
			fit++
		}
	}
	return max(1, fit/tried*float64(all)) / prime
}

// fitsAll reports whether v in place of the first sum gives all keys.
func fitsAll(v uint64, sums []uint64, low uint64) bool {
	for _, s := range sums[1:] {
		if (v+s-sums[0])%prime&low != s&low {
			return false
		}
	}
	return true
}

// linearSum is Linear's sum modulo the prime, before it is cut to a key.
func linearSum(a *[maxLimbs]uint64, t Tuple) uint64 {
	k := Keyer{mask: t.Mask, low: prime, a: *a}
	return uint64(k.linearKey(t)) % prime
}

// FitBits is the size of Linear's keys for the tuples of one question: that of
// DefaultBits, or less where keys of related addresses would leave fewer than floor
// candidates together.
func FitBits(floor float64, epoch string, tuples []Tuple) int {
	masks := make([]Mask, len(tuples))
	for i := range tuples {
		masks[i] = tuples[i].Mask
	}
	bits := DefaultBits(floor, masks...)
	for ; bits > 1; bits-- {
		if !slices.ContainsFunc(HiddenAddresses(Hash{Kind: Linear, Bits: uint8(bits)}, epoch, tuples), func(g Hidden) bool { return g.Candidates < floor }) {
			break
		}
	}
	return bits
}
