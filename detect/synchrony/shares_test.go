package synchrony

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// burstyShares are hosts that transmit in bursts; every third follows another.
func burstyShares(t testing.TB, rng *rand.Rand, hosts, intervals int) *Shares {
	t.Helper()
	s, err := NewShares(hosts, intervals)
	if err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		for at := range intervals {
			switch {
			case i%3 == 2 && rng.IntN(4) > 0:
				s.Set(i, at, s.row(i - 1)[at])
			case rng.IntN(12) == 0:
				s.Set(i, at, uint8(rng.IntN(80)))
			}
		}
	}
	return s
}

func (s *Shares) float(i int) []float64 {
	x := make([]float64, s.intervals)
	for t, v := range s.row(i)[:s.intervals] {
		x[t] = float64(v) / MostShare
	}
	return x
}

func TestCorrelationsAgainstGonum(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 6))
		s := burstyShares(t, rng, 1+rng.IntN(200), 1+rng.IntN(150))
		if s.hosts > 4 {
			clear(s.row(3)) // never
			for at := range s.intervals {
				s.Set(4, at, MostShare) // always
			}
		}
		const least = 0.3
		want := map[[2]int]float64{}
		for i := range s.hosts {
			for k := i + 1; k < s.hosts; k++ {
				if rho := stat.Correlation(s.float(i), s.float(k), nil); rho >= least {
					want[[2]int{i, k}] = rho
				}
			}
		}
		for name, kernel := range map[string]dots{"portable": dotsPortable, "fastest": fastestDots()} {
			got, dropped, err := correlate(context.Background(), s, least, 1<<20, kernel)
			if err != nil || dropped > 0 {
				t.Fatal(err, dropped)
			}
			found := map[[2]int]bool{}
			for _, c := range got {
				found[[2]int{c.First, c.Second}] = true
				if rho := stat.Correlation(s.float(c.First), s.float(c.Second), nil); math.Abs(rho-c.Rho) > 1e-12 {
					t.Errorf("seed %d, %s: %+v, want %v", seed, name, c, rho)
				}
			}
			for pair, rho := range want {
				if !found[pair] && rho > least+1e-12 {
					t.Errorf("seed %d, %s: %v with %v is missing", seed, name, pair, rho)
				}
			}
		}
	}
}

// The kernels agree where the sums are largest.
func TestDotsOfExtremes(t *testing.T) {
	s, _ := NewShares(70, maxIntervals)
	for i := range s.rows {
		s.rows[i] = MostShare
	}
	j := newCorrelation(s, 0.5, 1, nil)
	block := make([]uint8, columns*s.stride)
	j.loadBlock(block, 0)
	for name, kernel := range map[string]dots{"portable": dotsPortable, "fastest": fastestDots()} {
		var out [rowsOfDots * columns]int32
		kernel(&out, s.rows, s.stride/stepBytes, block)
		for k, v := range out {
			if v != maxIntervals*MostShare*MostShare {
				t.Fatalf("%s: product %d is %d", name, k, v)
			}
		}
	}
}

func TestCorrelationLimits(t *testing.T) {
	s := burstyShares(t, rand.New(rand.NewPCG(1, 6)), 150, 100)
	all, _, err := Correlations(context.Background(), s, 0.2, 1<<20)
	if err != nil || len(all) < 20 {
		t.Fatal(len(all), err)
	}
	few, dropped, err := Correlations(context.Background(), s, 0.2, 5)
	if err != nil || len(few) != 5 || dropped != len(all)-5 {
		t.Errorf("%d kept, %d dropped of %d: %v", len(few), dropped, len(all), err)
	}
	for _, least := range []float64{0, -1, math.NaN(), 1.1} {
		if _, _, err := Correlations(context.Background(), s, least, 5); err == nil {
			t.Errorf("%v is accepted", least)
		}
	}
	if _, err := NewShares(0, 5); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Correlations(ctx, s, 0.5, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func BenchmarkCorrelations(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, hosts := range map[string]int{"100k": 100_000, "10k": 10_000} {
		s := burstyShares(b, rng, hosts, 1440)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := Correlations(context.Background(), s, 0.9, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	small := burstyShares(b, rng, 2000, 1440)
	b.Run("2k/fastest", func(b *testing.B) {
		for b.Loop() {
			_, _, _ = Correlations(context.Background(), small, 0.9, 1<<20)
		}
	})
	b.Run("2k/portable", func(b *testing.B) {
		for b.Loop() {
			_, _, _ = correlate(context.Background(), small, 0.9, 1<<20, dotsPortable)
		}
	})
	b.Run("2k/gonum", func(b *testing.B) {
		data := mat.NewDense(1440, 2000, nil)
		for i := range 2000 {
			data.SetCol(i, small.float(i))
		}
		for b.Loop() {
			var sym mat.SymDense
			stat.CorrelationMatrix(&sym, data, nil)
		}
	})
}
