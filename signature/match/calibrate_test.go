package match_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"dragnet/dossier"
	"dragnet/signature/match"
)

// TestDistributionIsExact enumerates all windows of two bytes.
func TestDistributionIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	bg := textBackground()
	b := randomBlock(rng, 2)
	table := match.NewTable(&b, bg)
	d := table.Distribution(bg)
	for _, limit := range []int32{-2000, -500, -100, 0, 3, 200, 700} {
		want := 0.0
		for x := range 256 {
			for y := range 256 {
				if table.Score([]byte{byte(x), byte(y)}) >= limit {
					want += bg[x] * bg[y]
				}
			}
		}
		if got := d.Above(limit); math.Abs(got-want) > 1e-12 {
			t.Errorf("P(score >= %d) = %g, enumerated %g", limit, got, want)
		}
	}
}

// TestCalibratedRateHolds draws traffic from the model and counts windows
// above a threshold set for one false alarm per 10 KB.
func TestCalibratedRateHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	bg := textBackground()
	cumulative := [256]float64{}
	sum := 0.0
	for x, f := range bg {
		sum += f
		cumulative[x] = sum
	}
	data := make([]byte, 4<<20)
	for i := range data {
		u := rng.Float64()
		x := 0
		for x < 255 && cumulative[x] < u {
			x++
		}
		data[i] = byte(x)
	}
	for _, width := range []int{8, 24} {
		b := randomBlock(rng, width)
		table := match.NewTable(&b, bg)
		d := table.Distribution(bg)
		limit := int32(-1 << 20)
		for d.Above(limit) > 1e-4 {
			limit++
		}
		n := 0
		match.NewScanner(table, limit, match.Fastest()).Scan(data, func(int, int32) int32 { n++; return limit })
		// Neighbouring windows are nearly independent: the count is close to
		// Poisson. Five standard deviations.
		want := d.Above(limit) * float64(len(data))
		if math.Abs(float64(n)-want) > 5*math.Sqrt(want)+1 {
			t.Errorf("W=%d: %d windows reach the limit, the model says %.0f", width, n, want)
		}
	}
}

func TestThresholdKeepsToTheRate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, width := range []int{10, 32, 600} {
		m := match.NewModel(&dossier.Part{Blocks: []dossier.Block{randomBlock(rng, width)}}, textBackground())
		last := math.Inf(-1)
		for _, rate := range []float64{1000, 1, 1e-3} {
			omega := m.Threshold(rate)
			if m.FalseAlarms(omega) > rate {
				t.Errorf("W=%d: threshold %v gives %g per GB, more than %g", width, omega, m.FalseAlarms(omega), rate)
			}
			if below := omega - 4.0/match.Units/float64(width); m.FalseAlarms(below) <= rate*0.9 {
				t.Errorf("W=%d: a lower threshold than %v would do for %g per GB", width, omega, rate)
			}
			if omega <= last {
				t.Errorf("W=%d: threshold does not rise as the rate falls", width)
			}
			last = omega
		}
	}
}
