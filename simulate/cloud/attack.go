package cloud

import (
	"math"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/simulate/worm"
)

// attack runs rounds of tests (section 4.2): the master downloads alone, then
// with each flooder in turn sending to the sink. A round takes as long as its
// downloads do; the attacker waits a little in between.
func (w *world) attack() {
	w.run.Levels = make([][]float64, w.c.Flooders)
	target := w.servers[0]
	now, turns := float64(w.c.Seconds)/20, 0
	master := func() netip.Addr {
		turns++
		return w.run.Masters[turns%len(w.run.Masters)]
	}
	for range w.c.Tests {
		now = w.turn(now, func(now float64) float64 { return w.download(true, master(), target, now, 1) })
		alone := w.arrivals(1)
		for k := range w.run.Flooders {
			sends := w.c.Duty == 0 || w.rng.Float64() < w.c.Duty
			slower := 1.0
			if k == 0 && sends {
				slower = w.slowdown()
			}
			now = w.turn(now, func(now float64) float64 {
				from := master()
				d := w.download(true, from, target, now, slower)
				if w.c.HighRate {
					d += w.download(true, from, target, now+d, slower)
				}
				if sends {
					w.flood(k, now+float64(w.rng.IntN(w.c.Lag+1)), d)
				}
				return d
			})
			if sends {
				w.run.Levels[k] = append(w.run.Levels[k], AlphaMin(w.arrivals(slower), alone))
			}
		}
		w.run.Ends = append(w.run.Ends, min(at(now), start+flow.Time(w.c.Seconds)*flow.Time(time.Second)))
	}
}

// turn does one measurement and waits for the next.
func (w *world) turn(now float64, measure func(now float64) float64) float64 {
	return now + measure(now) + 2 + w.rng.ExpFloat64()*6
}

// slowdown is by how much a co-resident flooder lengthens a download. On the Open
// vSwitch test bed a flood of four fifths of the uplink made it three times as
// long; a flooder that is as quiet as a server makes much less of a difference.
func (w *world) slowdown() float64 {
	if w.c.HighRate {
		return 2.5
	}
	return 1.25
}

// flood lets the sink ask the flooder for files, as a client asks a server: as
// many as a session has, or ten times that.
func (w *world) flood(k int, now, d float64) {
	files := w.files()
	if w.c.HighRate {
		files *= 10
	}
	for i := range files {
		begin := now
		if i > 0 {
			begin += w.rng.Float64() * d
		}
		w.download(true, w.run.Sink, w.run.Flooders[k], begin, 1)
	}
}

// arrivals are the master's packet counts in twenty intervals of 50 ms: Poisson
// (section 2.2), at a rate that other traffic on the server's interface lowers for
// a while, and the flood too.
func (w *world) arrivals(slower float64) []float64 {
	others := 1.0
	if w.rng.IntN(3) == 0 {
		others += w.rng.Float64() * 0.6
	}
	counts := make([]float64, 20)
	for t := range counts {
		counts[t] = w.poisson(70 / (slower * others))
	}
	return counts
}

// poisson multiplies uniform numbers until they fall below e^-mean (Knuth); mean
// is small enough for that.
func (w *world) poisson(mean float64) (n float64) {
	for product, limit := w.rng.Float64(), math.Exp(-mean); product > limit; n++ {
		product *= w.rng.Float64()
	}
	return n
}

// AlphaMin is the attacker's statistic, equation 1: the level from which on the
// hypothesis that on and off come from the same distribution is rejected. It is
// not a probability and may exceed 1; it is 2 if a sample is empty.
func AlphaMin(on, off []float64) float64 {
	m, n := float64(len(on)), float64(len(off))
	if m == 0 || n == 0 {
		return 2
	}
	d, _ := worm.KolmogorovSmirnov(on, off)
	return 2 * math.Exp(-2*m*n/(m+n)*d*d)
}
