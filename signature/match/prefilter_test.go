package match_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"dragnet/dossier"
	"dragnet/signature/match"
)

// FuzzPrefilter compares all kernels' prefilters with the plain loop on
// signatures of many widths and thresholds, over payload that holds damaged
// copies of their likeliest windows and comes in two pieces.
func FuzzPrefilter(f *testing.F) {
	f.Add(uint64(1), uint16(3), []byte("the quick brown fox"))
	f.Add(uint64(2), uint16(1500), make([]byte, 3000))
	rng := rand.New(rand.NewPCG(81, 82))
	var all []*dossier.Signature
	var tables []*match.Table
	var blocks []dossier.Block
	for i := range 18 {
		b := randomBlock(rng, 20+i)
		s := signature(fmt.Sprintf("s%d", i), single(b, []float64{4.7, 5.5, 6.5}[i%3]))
		all, blocks, tables = append(all, s), append(blocks, b), append(tables, match.NewTable(&b, &s.Background))
	}
	var matchers []*match.Matcher
	for _, k := range match.Kernels() {
		matchers = append(matchers, newMatcher(f, k, all...))
	}
	f.Fuzz(func(t *testing.T, seed uint64, cut uint16, data []byte) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for range rng.IntN(8) {
			data = append(data, damaged(rng, &blocks[rng.IntN(len(blocks))])...)
			data = append(data, make([]byte, rng.IntN(100))...)
		}
		at := min(int(cut), len(data))
		for i, m := range matchers {
			s := m.NewStream()
			s.Write(data[:at])
			s.Write(data[at:])
			for j, v := range s.Close() {
				best := hit{-1, 0}
				for _, h := range plain(tables[j], data, tables[j].Limit(all[j].Parts[0].Threshold)) {
					if best.At < 0 || h.Score > best.Score {
						best = h
					}
				}
				got := v.Parts[0]
				if got.Reached != (best.At >= 0) || got.Reached && (got.At != int64(best.At) || got.Omega != tables[j].Omega(best.Score)) {
					t.Fatalf("%v, signature %d: %+v; the plain loop finds %+v", match.Kernels()[i], j, got, best)
				}
			}
		}
	})
}

// damaged is b's likeliest window with some bytes changed.
func damaged(rng *rand.Rand, b *dossier.Block) []byte {
	w := likely(b)
	for range rng.IntN(1 + len(w)/2) {
		w[rng.IntN(len(w))] = byte(rng.Uint32())
	}
	return w
}
