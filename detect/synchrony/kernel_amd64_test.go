package synchrony

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/cpu"
)

// kernels are those that this processor runs.
func kernels() map[string]compare {
	all := map[string]compare{"portable": comparePortable, "fastest": fastestCompare()}
	if cpu.X86.HasAVX2 {
		all["AVX2"] = compareAVX2
	}
	return all
}

func TestKernelsAgainstCounting(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for words := 1; words < 100; words += 1 + words/8 {
		const n = 5
		rows, block, limits := make([]uint64, n*words), make([]uint64, columns*words), make([]uint64, n)
		fill := func(v []uint64) {
			for i := range v {
				switch rng.IntN(4) {
				case 0:
					v[i] = ^uint64(0)
				case 1:
					v[i] = rng.Uint64() & rng.Uint64()
				default:
					v[i] = rng.Uint64()
				}
			}
		}
		fill(rows)
		fill(block)
		for r := range limits { // about as many as there are, so that both answers come
			limits[r] = uint64(max(1, words*64/2+rng.IntN(9)-4))
		}
		limits[n-1] = 1 << 40
		want := make([]uint64, n)
		for r := range want {
			for c := range columns {
				together := 0
				for w := range words {
					together += bits.OnesCount64(rows[r*words+w] & block[w*columns+c])
				}
				if uint64(together) >= limits[r] {
					want[r] |= 1 << c
				}
			}
		}
		for name, kernel := range kernels() {
			got := make([]uint64, n)
			kernel(got, rows, words, block, limits)
			for r := range want {
				if got[r] != want[r] {
					t.Errorf("%s, %d words, row %d: %064b, want %064b", name, words, r, got[r], want[r])
				}
			}
		}
	}
}

func BenchmarkPairsByAVX2(b *testing.B) {
	if !cpu.X86.HasAVX2 {
		b.Skip("this processor has no AVX2")
	}
	m := bursty(b, rand.New(rand.NewPCG(1, 2)), 20_000, 1440)
	tr := NewTrend(m, 121)
	for b.Loop() {
		if _, _, err := comparePairs(b.Context(), m, tr, Screen{Tail: 1e-9, Limit: 1 << 20}, compareAVX2); err != nil {
			b.Fatal(err)
		}
	}
}
