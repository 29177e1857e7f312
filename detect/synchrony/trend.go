package synchrony

import "math"

// Trend is how likely any active host is to be active in each interval: the
// time of day, which makes all of them busy at once and is not synchrony.
type Trend struct {
	weight []float64 // sums to 1; 0 where nothing was observed
}

// NewTrend takes the mean activity of all hosts, smoothed over span intervals.
// What is shorter than span stays in the pairs: a trend that followed it would
// explain the attack away.
func NewTrend(b *Bits, span int) Trend {
	sums := make([]float64, b.intervals)
	for i := range b.hosts {
		row := b.Row(i)
		for t := range sums {
			sums[t] += float64(row[t/64] >> (t % 64) & 1)
		}
	}
	known := make([]float64, b.intervals)
	for t := range known {
		known[t] = float64(b.observed[t/64] >> (t % 64) & 1)
	}
	half, total := max(span, 1)/2, 0.0
	weight := make([]float64, b.intervals)
	for t := range weight {
		active, seen := 0.0, 0.0
		for u := max(0, t-half); u <= min(b.intervals-1, t+half); u++ {
			active += sums[u]
			seen += known[u]
		}
		if known[t] > 0 {
			weight[t] = active / seen
		}
		total += weight[t]
	}
	for t := range weight {
		if total > 0 {
			weight[t] /= total
		}
	}
	return Trend{weight}
}

// overlap is the sum over t of w(t) w(t+lag): two hosts with m and n active
// intervals, each placed by the trend alone, share m*n*overlap of them.
func (tr Trend) overlap(lag int) (sum float64) {
	for t, w := range tr.weight {
		if u := t + lag; u >= 0 && u < len(tr.weight) {
			sum += w * tr.weight[u]
		}
	}
	return sum
}

// Phi is the correlation of two binary series (Yule 1912): with both active in
// together of all intervals, and one in a and the other in b of them. It is 0
// where a series is constant and a correlation is not defined.
func Phi(together, a, b, all int) float64 {
	return detrendedPhi(together, a, b, all, float64(a)*float64(b)/float64(all))
}

// detrendedPhi puts what the trend expects in place of what independence does.
func detrendedPhi(together, a, b, all int, expected float64) float64 {
	if a <= 0 || b <= 0 || a >= all || b >= all {
		return 0
	}
	p, q, n := float64(a)/float64(all), float64(b)/float64(all), float64(all)
	return (float64(together) - expected) / (n * math.Sqrt(p*(1-p)*q*(1-q)))
}

// Pearson is the correlation coefficient of two series, equation 3 of the paper.
// ok is false for series of different or no length, and where one is constant.
func Pearson(x, y []float64) (rho float64, ok bool) {
	if len(x) != len(y) || len(x) == 0 {
		return 0, false
	}
	var meanX, meanY float64
	for t := range x {
		meanX += x[t] / float64(len(x))
		meanY += y[t] / float64(len(y))
	}
	var xx, yy, xy float64
	for t := range x {
		dx, dy := x[t]-meanX, y[t]-meanY
		xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
	}
	// A constant series leaves only rounding.
	if xx <= 1e-18*float64(len(x))*meanX*meanX || yy <= 1e-18*float64(len(y))*meanY*meanY || xx == 0 || yy == 0 {
		return 0, false
	}
	return max(-1, min(1, xy/math.Sqrt(xx*yy))), true
}
