package worm

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"
)

// Outbreak is one simulated run.
type Outbreak struct {
	Vulnerable int `json:"vulnerable"`
	// Infected and Networks count the infected hosts and networks.
	Infected int `json:"infected"`
	Networks int `json:"networks"`
	// Last is when the last infection happened, End when the run ended, seconds.
	Last float64 `json:"last"`
	End  float64 `json:"end"`
	// Stopped says that no infected host was left that could scan.
	Stopped bool `json:"stopped"`
	// Scans counts scans that left a network: each was either simulated or
	// skipped by a jump to the next hit. Transitions counts changes of state.
	Scans       float64 `json:"scans"`
	Transitions int64   `json:"transitions"`

	times []float64 // of the infections
	count []int32   // infected hosts after each
}

// Share is the infected part of the vulnerable hosts at the end.
func (r *Outbreak) Share() float64 { return float64(r.Infected) / float64(r.Vulnerable) }

// At is the infected share at a time.
func (r *Outbreak) At(t float64) float64 {
	i := sort.Search(len(r.times), func(i int) bool { return r.times[i] > t })
	if i == 0 {
		return 0
	}
	return float64(r.count[i-1]) / float64(r.Vulnerable)
}

// When is the time at which a share of the hosts was infected; infinite if it
// never was.
func (r *Outbreak) When(share float64) float64 {
	need := share * float64(r.Vulnerable)
	i := sort.Search(len(r.count), func(i int) bool { return float64(r.count[i]) >= need })
	if i == len(r.count) {
		return math.Inf(1)
	}
	return r.times[i]
}

func (r *Outbreak) addPoint(t float64, infected int) {
	r.Last, r.Infected = t, infected
	r.times, r.count = append(r.times, t), append(r.count, int32(infected))
}

// Quartiles are the lower quartile, the median and the upper quartile.
type Quartiles struct {
	Low, Median, High float64
}

// QuartilesOf computes the quartiles of values; runs that never reached the
// value count as infinite.
func QuartilesOf(values []float64) Quartiles {
	if len(values) == 0 {
		return Quartiles{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(values)
	at := func(q float64) float64 {
		i := q * float64(len(values)-1)
		low, high := values[int(i)], values[int(math.Ceil(i))]
		if low == high {
			return low // also both infinite
		}
		return low + (i-math.Floor(i))*(high-low)
	}
	return Quartiles{at(0.25), at(0.5), at(0.75)}
}

// Ensemble runs c with n seeds, c.Seed and those after it, on all processors.
// each, which may be nil, is called once per finished run, from any goroutine.
func Ensemble(ctx context.Context, c Configuration, n int, each func(*Outbreak)) ([]*Outbreak, error) {
	results := make([]*Outbreak, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error {
			c := c
			c.Seed += uint64(i)
			r, err := Run(ctx, c)
			results[i] = r
			if err == nil && each != nil {
				each(r)
			}
			return err
		})
	}
	return results, g.Wait()
}

// KolmogorovSmirnov compares two samples: the largest distance of their
// distributions, and the probability of one at least as large if both come from
// the same (asymptotic; Stephens 1970).
func KolmogorovSmirnov(a, b []float64) (distance, p float64) {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		v := min(a[i], b[j])
		for i < len(a) && a[i] <= v {
			i++
		}
		for j < len(b) && b[j] <= v {
			j++
		}
		distance = max(distance, math.Abs(float64(i)/float64(len(a))-float64(j)/float64(len(b))))
	}
	n := math.Sqrt(float64(len(a)) * float64(len(b)) / float64(len(a)+len(b)))
	x := (n + 0.12 + 0.11/n) * distance
	if x < 0.2 {
		return distance, 1
	}
	for k := 1; k <= 100; k++ {
		sign := 1.0
		if k%2 == 0 {
			sign = -1
		}
		p += 2 * sign * math.Exp(-2*float64(k*k)*x*x)
	}
	return distance, min(max(p, 0), 1)
}
