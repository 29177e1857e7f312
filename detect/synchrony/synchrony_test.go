package synchrony

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"dragnet/internal/testkit"

	"pgregory.net/rapid"
)

// bursty hosts are active in bursts of several intervals, more by day.
func bursty(t testing.TB, rng *rand.Rand, hosts, intervals int) *Bits {
	t.Helper()
	b, err := NewBits(hosts, intervals)
	if err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		rate, length := 0.003+0.04*rng.Float64(), 1+rng.IntN(5)
		for at := range intervals {
			day := 1 + 0.8*math.Sin(2*math.Pi*float64(at)/float64(intervals))
			if rng.Float64() < rate*day {
				for k := range 1 + rng.IntN(length) {
					if at+k < intervals {
						b.Activate(i, at+k)
					}
				}
			}
		}
	}
	return b
}

// slowTogether counts by looking at each interval.
func slowTogether(b *Bits, i, j, lag int) (n int) {
	for t := range b.Intervals() {
		if u := t + lag; u >= 0 && u < b.Intervals() && b.Active(i, t) && b.Active(j, u) {
			n++
		}
	}
	return n
}

func TestTogetherAgainstEachInterval(t *testing.T) {
	for _, intervals := range []int{1, 63, 64, 65, 128, 200} {
		rng := rand.New(rand.NewPCG(uint64(intervals), 1))
		b := bursty(t, rng, 2, intervals)
		for lag := -intervals - 70; lag <= intervals+70; lag++ {
			want := slowTogether(b, 0, 1, lag)
			if got := countTogether(b.Row(0), b.Row(1), lag); got != want {
				t.Fatalf("%d intervals, lag %d: %d, want %d", intervals, lag, got, want)
			}
			if got := len(b.Common(0, []int{1}, lag)); got != want {
				t.Fatalf("%d intervals, lag %d: %d are listed, want %d", intervals, lag, got, want)
			}
		}
	}
}

func TestPhiIsPearsonOfBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	b := bursty(t, rng, 12, 300)
	series := make([][]float64, b.Hosts())
	for i := range series {
		series[i] = make([]float64, b.Intervals())
		for at := range series[i] {
			if b.Active(i, at) {
				series[i][at] = 1
			}
		}
	}
	for i := range series {
		for j := range i {
			want := stat.Correlation(series[i], series[j], nil)
			got, ok := Pearson(series[i], series[j])
			phi := Phi(slowTogether(b, i, j, 0), b.Count(i), b.Count(j), b.Intervals())
			if !ok || math.Abs(got-want) > 1e-12 || math.Abs(phi-want) > 1e-12 {
				t.Errorf("%d and %d: Pearson %v, phi %v, want %v", i, j, got, phi, want)
			}
		}
	}
	if _, ok := Pearson([]float64{0.1, 0.1, 0.1}, []float64{1, 2, 3}); ok {
		t.Error("a constant series has a correlation")
	}
	if v := Phi(5, 10, 5, 10); v != 0 {
		t.Errorf("phi with a host that is always active is %v", v)
	}
}

// naivePairs is Pairs by definition.
func naivePairs(b *Bits, tr Trend, s Screen) (pairs []Pair) {
	level := -math.Log(s.Tail)
	for i := range b.Hosts() {
		for j := i + 1; j < b.Hosts(); j++ {
			m, n := b.Count(i), b.Count(j)
			if m == 0 || n == 0 || m == b.Observed() || n == b.Observed() {
				continue
			}
			var best *Pair
			for lag := -s.Lags; lag <= s.Lags; lag++ {
				p := Pair{First: i, Second: j, Lag: lag, Together: slowTogether(b, i, j, lag), Expected: float64(m) * float64(n) * tr.overlap(lag)}
				if p.excess() >= level && (best == nil || moreRemarkable(p, *best) < 0) {
					best = &p
				}
			}
			if best != nil {
				pairs = append(pairs, *best)
			}
		}
	}
	return pairs
}

func TestPairsAgainstAllOfThem(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := bursty(t, rng, 150+rng.IntN(60), 100+rng.IntN(200))
		b.Miss(17)
		clear(b.Row(3))
		tr := NewTrend(b, 61)
		s := Screen{Lags: rng.IntN(4), Tail: 0.02, Limit: 1 << 20}
		want := naivePairs(b, tr, s)
		for name, kernel := range map[string]kernel{"portable": wordKernel(comparePortable), "fastest": fastestKernel()} {
			got, dropped, err := comparePairs(context.Background(), b, tr, s, kernel)
			if err != nil || dropped != 0 {
				t.Fatal(err, dropped)
			}
			near := func(x, y Pair) bool {
				return x.First == y.First && x.Second == y.Second && x.Lag == y.Lag && x.Together == y.Together && math.Abs(x.Expected-y.Expected) < 1e-9
			}
			if !slices.EqualFunc(got, want, near) {
				t.Errorf("seed %d, %s: %d pairs, want %d", seed, name, len(got), len(want))
			}
		}
		if len(want) == 0 {
			t.Errorf("seed %d: no pair passed, so nothing was compared", seed)
		}
	}
}

func TestPairsBeyondTheLimitAreCounted(t *testing.T) {
	b := bursty(t, rand.New(rand.NewPCG(9, 9)), 200, 200)
	s := Screen{Lags: 1, Tail: 0.1, Limit: 1 << 20}
	all, _, err := Pairs(context.Background(), b, NewTrend(b, 61), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Limit = 5
	few, dropped, err := Pairs(context.Background(), b, NewTrend(b, 61), s)
	if err != nil || len(few) != 5 || dropped != len(all)-5 {
		t.Fatalf("%d kept, %d dropped of %d: %v", len(few), dropped, len(all), err)
	}
	slices.SortFunc(all, moreRemarkable)
	for _, p := range few {
		if !slices.Contains(all[:5], p) {
			t.Errorf("%+v is not among the most remarkable", p)
		}
	}
}

func TestTailAgainstDistribution(t *testing.T) {
	for n := -1.0; n < 45; n++ {
		binomial := distuv.Binomial{N: 40, P: 0.2}
		if got, want := binomialTail(n, 40, 0.2), 1-binomial.CDF(n-1); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", n, got, want)
		}
	}
}

// TestCompareAgainstEachInterval computes hits and chances by definition.
func TestCompareAgainstEachInterval(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 8))
		b := bursty(t, rng, 2, 100+rng.IntN(200))
		b.Miss(50)
		from, to := b.onsets(b.Row(0)), b.onsets(b.Row(1))
		at := func(row []uint64, u int) bool { return u >= 0 && u < b.Intervals() && row[u/64]>>(u%64)&1 != 0 }
		lag, tolerance, window := rng.IntN(7)-3, rng.IntN(3), 5+rng.IntN(30)
		if tolerance > 0 {
			lag = 0
		}
		hit := func(u int) bool {
			for d := -tolerance; d <= tolerance; d++ {
				if at(to, u+lag+d) && (tolerance == 0 || at(b.observed, u)) {
					return true
				}
			}
			return false
		}
		hits, expected := 0, 0.0
		for u := range b.Intervals() {
			if began := b.Active(0, u) && at(b.observed, u-1) && !b.Active(0, u-1); began != at(from, u) {
				t.Fatalf("seed %d: onset at %d is %v", seed, u, !began)
			}
			if !at(from, u) {
				continue
			}
			if hit(u) {
				hits++
			}
			would, seen := 0.0, 0.0
			for v := u - window; v <= u+window; v++ {
				if at(b.observed, v) {
					seen++
				}
				if v >= 0 && v < b.Intervals() && hit(v) {
					would++
				}
			}
			expected += would / seen
		}
		got := b.compare(from, to, lag, tolerance, window)
		if got.Hits != hits || math.Abs(got.Expected-expected) > 1e-9 {
			t.Errorf("seed %d: %+v, want %d hits where %v are expected", seed, got, hits, expected)
		}
	}
}

// TestTimersOfLikePeriodAreNotSynchronised has hosts that a timer wakes: that
// two of them agree once means nothing, as they agree for ever after.
func TestTimersOfLikePeriodAreNotSynchronised(t *testing.T) {
	for _, period := range []int{5, 12, 30, 60} {
		b, err := NewBits(2, 1440)
		if err != nil {
			t.Fatal(err)
		}
		for at := 3; at < 1440; at += period {
			b.Activate(0, at)
			b.Activate(1, at)
		}
		if r := b.TestPair(0, 1, standard); r.P < 1e-3 || !r.Timers {
			t.Errorf("period %d: %+v", period, r)
		}
		// The same timers, and as much again that is not theirs.
		rng := rand.New(rand.NewPCG(uint64(period), 2))
		for range 1440 / period {
			b.Activate(0, rng.IntN(1440))
			b.Activate(1, rng.IntN(1440))
		}
		if r := b.TestPair(0, 1, standard); r.P < 1e-3 {
			t.Errorf("period %d, and other activity: %+v", period, r)
		}
	}
}

var standard = DefaultNull(1440)

// TestPValuesHold counts how often hosts that do nothing together get a small
// p-value, though they are bursty and share the day.
// Machines whose timers agree are not synchronised, even if they do much else at
// independent times; those that are by more than timers stay so.
func TestTimersAmongOtherActivityAreLeftOut(t *testing.T) {
	found := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 9))
		const intervals = 650
		b, _ := NewBits(3, intervals)
		for i := range 3 {
			for at := 7 + 10*(i/2); at < intervals; at += 30 {
				b.Activate(i, at)
			}
			for at := range intervals {
				if rng.Float64() < 0.03 {
					b.Activate(i, at)
				}
			}
		}
		if r := b.TestPair(0, 1, DefaultNull(intervals)); r.P < promising || !r.Timers {
			t.Errorf("seed %d: timers alone give %+v", seed, r)
		}
		for range 15 {
			at := rng.IntN(intervals)
			b.Activate(0, at)
			b.Activate(2, at)
		}
		if b.TestPair(0, 2, DefaultNull(intervals)).P < 1e-3 {
			found++
		}
	}
	if found < 30 {
		t.Errorf("of 40 pairs that are synchronised beside their timers %d are found", found)
	}
}

// The onsets that a timer explains are those with activity one period before and
// after, as far as is known.
func TestLeaveOutAgainstDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "intervals")
		b, _ := NewBits(1, n)
		for at := range n {
			switch rapid.IntRange(0, 3).Draw(t, "state") {
			case 0:
				b.Activate(0, at)
			case 1:
				b.Miss(at)
			}
		}
		d := rapid.IntRange(1, 80).Draw(t, "period")
		row, onsets := b.Row(0), b.onsets(b.Row(0))
		active := func(at int) bool {
			return at < 0 || at >= n || b.observed[at/64]>>(at%64)&1 == 0 || b.Active(0, at)
		}
		rest := b.leaveOut(row, onsets, d)
		for at := range n {
			want := onsets[at/64]>>(at%64)&1 != 0 && !(active(at-d) && active(at+d))
			if got := rest[at/64]>>(at%64)&1 != 0; got != want {
				t.Fatalf("interval %d: %v, want %v", at, got, want)
			}
		}
	})
}

func TestPValuesHold(t *testing.T) {
	hosts := 250
	if testkit.Short(t) {
		hosts = 80
	}
	b := bursty(t, rand.New(rand.NewPCG(77, 1)), hosts, 1440)
	tests, below := 0, map[float64]int{0.1: 0, 0.01: 0, 0.001: 0, 1e-5: 0}
	for i := range b.Hosts() {
		for j := range i {
			tests++
			p := b.TestPair(i, j, standard).P
			for level := range below {
				if p <= level {
					below[level]++
				}
			}
		}
	}
	for level, n := range below {
		// One and a half times the level, and room for chance.
		if want := 1.5*level*float64(tests) + 4*math.Sqrt(level*float64(tests)) + 1; float64(n) > want {
			t.Errorf("%d of %d pairs have p <= %v, at most %.0f were to be expected", n, tests, level, want)
		}
		t.Logf("p <= %v: %.6f", level, float64(n)/float64(tests))
	}
}

// TestPlantedMasterIsFound has a master that is active with one of three
// flooders at a time, up to three intervals late.
func TestPlantedMasterIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	b := bursty(t, rng, 40, 1440)
	for i := range 4 {
		clear(b.Row(i))
	}
	for k := range 45 {
		at := 20 + 31*k + rng.IntN(12)
		b.Activate(0, at)
		b.Activate(1+k%3, at+rng.IntN(4))
	}
	if r := b.TestGroup(0, []int{1, 2, 3}, standard); r.P > 1e-6 || r.Tolerance < 2 {
		t.Errorf("the group has %+v", r)
	}
	for _, others := range [][]int{{4}, {5, 6, 7}, {20}} {
		if r := b.TestGroup(0, others, standard); r.P < 1e-3 {
			t.Errorf("the master with %v has %+v", others, r)
		}
	}
}

func TestNothingOutOfNothing(t *testing.T) {
	b, err := NewBits(4, 500)
	if err != nil {
		t.Fatal(err)
	}
	for at := range 500 {
		b.Activate(1, at)
		b.Activate(2, at)
	}
	b.Activate(3, 10)
	pairs, _, err := Pairs(context.Background(), b, NewTrend(b, 61), Screen{Lags: 3, Tail: 1e-4, Limit: 100})
	if err != nil || len(pairs) != 0 {
		t.Errorf("%v, %v", pairs, err)
	}
	for i := range 4 {
		for j := range i {
			if r := b.TestPair(i, j, standard); r.P < 0.1 {
				t.Errorf("%d and %d: %+v", i, j, r)
			}
		}
	}
	for at := range 500 {
		b.Miss(at)
	}
	if r := b.TestPair(1, 2, standard); r.P != 1 {
		t.Errorf("with no interval observed: %+v", r)
	}
	if tr := NewTrend(b, 5); tr.overlap(0) != 0 {
		t.Error("nothing observed has a trend")
	}
}

func TestSizes(t *testing.T) {
	for _, size := range [][2]int{{0, 1}, {1, 0}, {-1, 5}, {maxHosts + 1, 1}, {1, maxIntervals + 1}} {
		if _, err := NewBits(size[0], size[1]); !errors.Is(err, ErrSize) {
			t.Errorf("%v: %v", size, err)
		}
	}
	b, _ := NewBits(2, 10)
	for _, s := range []Screen{{Lags: -1, Tail: 0.1, Limit: 1}, {Lags: 10, Tail: 0.1, Limit: 1}, {Tail: math.NaN(), Limit: 1}, {Tail: 0.1}} {
		if _, _, err := Pairs(context.Background(), b, NewTrend(b, 3), s); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b = bursty(t, rand.New(rand.NewPCG(1, 1)), 100, 100)
	if _, _, err := Pairs(ctx, b, NewTrend(b, 3), Screen{Tail: 0.1, Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRollAgainstAFreshMatrix(t *testing.T) {
	long := bursty(t, rand.New(rand.NewPCG(4, 4)), 5, 230)
	b, _ := NewBits(5, 130)
	for at := range 230 {
		var active []int
		for i := range 5 {
			if long.Active(i, at) {
				active = append(active, i)
			}
		}
		b.Roll(active)
	}
	for i := range 5 {
		for at := range 130 {
			if b.Active(i, at) != long.Active(i, at+100) {
				t.Fatalf("host %d, interval %d", i, at)
			}
		}
	}
}

func TestDiscoveriesAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 200 {
		p := make([]float64, 1+rng.IntN(20))
		for i := range p {
			p[i] = math.Pow(rng.Float64(), 3)
		}
		tests, rate := len(p)+rng.IntN(10), 0.01+0.3*rng.Float64()
		var limit float64 // the largest p-value below its line
		for _, v := range p {
			rank := 0
			for _, u := range p {
				if u <= v {
					rank++
				}
			}
			if v <= rate*float64(rank)/float64(tests) {
				limit = max(limit, v)
			}
		}
		var want []int
		for i, v := range p {
			if v <= limit {
				want = append(want, i)
			}
		}
		if got := Discoveries(p, tests, rate); !slices.Equal(got, want) {
			t.Fatalf("%v of %d at %v: %v, want %v", p, tests, rate, got, want)
		}
	}
}

func BenchmarkPairs(b *testing.B) {
	m := bursty(b, rand.New(rand.NewPCG(1, 2)), 100_000, 1440)
	tr := NewTrend(m, 121)
	for _, lags := range []int{0, 3} {
		b.Run(map[int]string{0: "lag0", 3: "lags3"}[lags], func(b *testing.B) {
			for b.Loop() {
				pairs, dropped, err := Pairs(context.Background(), m, tr, Screen{Lags: lags, Tail: 1e-9, Limit: 1 << 20})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(pairs)+dropped), "passed")
			}
		})
	}
	b.Run("busy", func(b *testing.B) { // active in half of the intervals: the most that one can do for a kernel
		busy, err := NewBits(100_000, 1440)
		if err != nil {
			b.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(3, 4))
		for i := range busy.rows {
			busy.rows[i] = rng.Uint64()
		}
		for t := busy.intervals; t < 64*busy.words; t++ { // beyond the end
			for i := range busy.hosts {
				busy.rows[i*busy.words+t/64] &^= 1 << (t % 64)
			}
		}
		tr := NewTrend(busy, 121)
		for b.Loop() {
			if _, _, err := Pairs(context.Background(), busy, tr, Screen{Tail: 1e-9, Limit: 1 << 20}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("roll", func(b *testing.B) {
		active := []int{1, 5, 70_000}
		for b.Loop() {
			m.Roll(active)
		}
	})
	small := bursty(b, rand.New(rand.NewPCG(1, 2)), 20_000, 1440)
	tr = NewTrend(small, 121)
	for name, kernel := range map[string]kernel{"20k/portable": wordKernel(comparePortable), "20k/fastest": fastestKernel()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := comparePairs(context.Background(), small, tr, Screen{Tail: 1e-9, Limit: 1 << 20}, kernel); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
