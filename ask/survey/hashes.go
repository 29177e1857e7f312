package survey

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"dragnet/flow/key"
)

// ambiguity is the number of tuples of the log that should share a key.
const ambiguity = 16

// RecommendedBits is the size of linear keys at which a log of n distinct
// tuples gives about 16 answers to a question: log2(n/16), rounded.
func RecommendedBits(n int) int {
	b := math.Round(math.Log2(float64(n) / ambiguity))
	return int(min(max(b, 1), key.MaxBits))
}

// Hashes lists the hashes to survey over n distinct tuples. Names are as for
// key.ParseHash; none means all three. Bits are the sizes of linear, and
// of product-mod without an explicit modulus; none means the usual ones
// and the recommended.
func Hashes(names []string, bits []int, n int) ([]key.Hash, error) {
	if len(names) == 0 {
		// 2^16 is not prime: it shows why the others are.
		names = []string{"product", "product-mod", "product-mod:65536", "linear"}
	}
	forMod, forLinear := bits, bits
	if len(bits) == 0 {
		forMod = sizes(12, 16, RecommendedBits(n))
		forLinear = sizes(12, 16, 19, 24, RecommendedBits(n))
	}
	var out []key.Hash
	for _, name := range names {
		base, _, given := strings.Cut(name, ":")
		use := []int{key.MaxBits} // any: the hash has no size, or its own
		switch {
		case base == "linear":
			use = forLinear
		case base == "product-mod" && !given:
			use = forMod
		}
		for _, b := range use {
			h, err := key.ParseHash(name, b)
			if err != nil {
				return nil, fmt.Errorf("--hash %s, %d bits: %w", name, b, err)
			}
			if !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
	}
	return out, nil
}

func sizes(all ...int) []int {
	slices.Sort(all)
	return slices.Compact(slices.DeleteFunc(all, func(b int) bool { return b < 2 }))
}

// Label names a hash with its parameter, such as "linear/19".
func Label(h key.Hash) string {
	if h.Kind == key.Linear {
		return fmt.Sprintf("%s/%d", h, h.Bits)
	}
	return h.String()
}
