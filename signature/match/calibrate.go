package match

import (
	"math"

	"dragnet/dossier"
)

// Distribution is the distribution of the scores of windows of random traffic,
// in which every byte is drawn from the same byte distribution.
type Distribution struct {
	low int32
	// tail[i] is the probability of a score of at least low+i units.
	tail []float64
}

// negligible is the probability below which states are dropped while
// distributions are convolved; what is dropped is added to every tail, so a
// tail is never understated.
const negligible = 1e-22

// Distribution is exact: the convolution of the rounded weights of all
// positions.
func (t *Table) Distribution(traffic *dossier.Background) *Distribution {
	low, mass, lost := int32(0), []float64{1}, 0.0
	for p := range t.rows {
		least, most := int32(math.MaxInt16), int32(math.MinInt16)
		for _, v := range t.rows[p] {
			least, most = min(least, int32(v)), max(most, int32(v))
		}
		step := make([]float64, most-least+1)
		for x, v := range t.rows[p] {
			step[int32(v)-least] += traffic[x]
		}
		next := make([]float64, len(mass)+len(step)-1)
		for d, q := range step {
			if q > 0 {
				for s, m := range mass {
					next[s+d] += m * q
				}
			}
		}
		low += least
		from, to := 0, len(next)
		for ; next[from] < negligible; from++ {
			lost += next[from]
		}
		for ; next[to-1] < negligible; to-- {
			lost += next[to-1]
		}
		low, mass = low+int32(from), next[from:to]
	}
	d := &Distribution{low: low, tail: mass}
	sum := lost
	for i := len(mass) - 1; i >= 0; i-- {
		sum += mass[i]
		d.tail[i] = sum
	}
	return d
}

// Above is the probability that one window scores at least limit.
func (d *Distribution) Above(limit int32) float64 {
	switch i := limit - d.low; {
	case i <= 0:
		return 1
	case int(i) >= len(d.tail):
		return negligible * float64(len(d.tail))
	default:
		return d.tail[i]
	}
}

// widest is the width up to which distributions are convolved; beyond, the
// Chernoff bound is used.
const widest = 512

// tailIn gives an upper bound of P(score >= limit) in traffic: exact up to
// widest positions.
func (t *Table) tailIn(traffic *dossier.Background) func(limit int32) float64 {
	if t.Width() <= widest {
		return t.Distribution(traffic).Above
	}
	return t.chernoffBound(traffic)
}

// chernoffBound bounds P(score >= limit) by min over theta of
// E[exp(theta score)] exp(-theta limit).
func (t *Table) chernoffBound(traffic *dossier.Background) func(limit int32) float64 {
	const steps, step = 40, 0.05 / Units
	var logMoment [steps + 1]float64
	for i := range logMoment {
		for p := range t.rows {
			sum := 0.0
			for x, v := range t.rows[p] {
				sum += traffic[x] * math.Exp(step*float64(i)*float64(v))
			}
			logMoment[i] += math.Log(sum)
		}
	}
	return func(limit int32) float64 {
		best := 0.0
		for i, m := range logMoment {
			best = min(best, m-step*float64(i)*float64(limit))
		}
		return math.Exp(best)
	}
}

// perGB is how many windows start in 10^9 bytes.
const perGB = 1e9

// uniformBackground is traffic in which all byte values are equally likely.
func uniformBackground() *dossier.Background {
	var bg dossier.Background
	for x := range bg {
		bg[x] = 1.0 / 256
	}
	return &bg
}

// AlarmModel predicts the false alarms of a part from its background.
type AlarmModel struct {
	width int
	ways  float64 // alignments of a gapped part per window
	tails []func(int32) float64
}

// NewModel computes p's score distribution in background traffic and in uniform
// bytes (compressed or encrypted payload); the worse one counts. The blocks of
// a gapped part are treated as one, times the number of ways to place them,
// which is an upper bound.
func NewModel(p *dossier.Part, bg *dossier.Background) *AlarmModel {
	return newModel(p, bg, (*Table).tailIn)
}

// NewBound is NewModel with the Chernoff bound in place of the exact distributions: it
// states more false alarms, and takes a hundredth of the time.
func NewBound(p *dossier.Part, bg *dossier.Background) *AlarmModel {
	return newModel(p, bg, (*Table).chernoffBound)
}

func newModel(p *dossier.Part, bg *dossier.Background, tailIn func(*Table, *dossier.Background) func(int32) float64) *AlarmModel {
	joined := dossier.Block{Pseudo: p.Blocks[0].Pseudo}
	m := &AlarmModel{ways: 1}
	for i := range p.Blocks {
		joined.Columns = append(joined.Columns, p.Blocks[i].Columns...)
		m.ways *= float64(p.Blocks[i].Gap.Max - p.Blocks[i].Gap.Min + 1)
	}
	t := NewTable(&joined, bg)
	m.width = t.Width()
	m.tails = []func(int32) float64{tailIn(t, bg), tailIn(t, uniformBackground())}
	return m
}

// FalseAlarms is the number of windows in 10^9 bytes that score above omega.
func (m *AlarmModel) FalseAlarms(omega float64) float64 {
	worst := 0.0
	for _, tail := range m.tails {
		worst = max(worst, tail(limitAbove(omega, m.width)))
	}
	return min(1, worst*m.ways) * perGB
}

// Threshold is the least threshold, to 1/64 nat in all, whose false alarms do
// not exceed rate per 10^9 bytes.
func (m *AlarmModel) Threshold(rate float64) float64 {
	low, high := -64.0, 64.0 // no log ratio is larger
	for unit := 1.0 / Units / float64(m.width); high-low > unit; {
		if mid := (low + high) / 2; m.FalseAlarms(mid) > rate {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}
