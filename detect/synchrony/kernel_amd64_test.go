package synchrony

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/cpu"
)

// kernels are those that this processor runs.
func kernels() map[string]kernel {
	all := map[string]kernel{"portable": wordKernel(comparePortable), "fastest": fastestKernel()}
	if cpu.X86.HasAVX2 {
		all["AVX2"] = lookupKernel
	}
	return all
}

func TestKernelsAgainstCounting(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for words := 1; words < maxIntervals/64; words += 1 + words/8 {
		const n = 9
		rows, hosts, limits := make([]uint64, n*words), make([][]uint64, columns-int(rng.Uint32()%3)), make([]uint64, n)
		fill := func(v []uint64) {
			density := rng.IntN(6)
			for i := range v {
				switch density {
				case 0:
					v[i] = ^uint64(0)
				case 1:
					for range 3 {
						v[i] |= 1 << rng.IntN(64)
					}
				case 2: // as of a host that is hardly ever active
					v[i] = uint64(rng.IntN(4)/3) << rng.IntN(64)
				default:
					v[i] = rng.Uint64()
				}
			}
		}
		for r := range n {
			fill(rows[r*words : (r+1)*words])
		}
		clear(rows[:words]) // a lag may shift all out
		for c := range hosts {
			hosts[c] = make([]uint64, words)
			fill(hosts[c])
		}
		together := func(r, c int) (n int) {
			for w, v := range hosts[c] {
				n += bits.OnesCount64(rows[r*words+w] & v)
			}
			return n
		}
		for r := range limits { // those of one column, so that both answers come
			limits[r] = uint64(max(1, together(r, rng.IntN(len(hosts)))+rng.IntN(3)-1))
		}
		limits[n-1] = 1 << 40
		want := make([]uint64, n)
		for r := range want {
			for c := range hosts {
				if uint64(together(r, c)) >= limits[r] {
					want[r] |= 1 << c
				}
			}
		}
		for name, k := range kernels() {
			got, set, b := make([]uint64, n), &rowSet{rows: rows, words: words}, &block{}
			k.load(b, hosts[:1], words) // what an earlier block left must not count
			k.load(b, hosts, words)
			k.prepare(set)
			k.compare(got, set, b, limits)
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
		if _, _, err := comparePairs(b.Context(), m, tr, Screen{Tail: 1e-9, Limit: 1 << 20}, lookupKernel); err != nil {
			b.Fatal(err)
		}
	}
}
