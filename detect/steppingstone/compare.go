package steppingstone

import (
	"math"
	"slices"
	"time"

	"dragnet/flow"
)

// silence precedes an event that begins something new.
const silence = flow.Time(20 * time.Millisecond)

// widths are those of the windows of delay in which an event is looked for: a relay
// adds little of its own, a jittered path or a busy host more.
var widths = [...]flow.Time{flow.Time(5 * time.Millisecond), flow.Time(25 * time.Millisecond), flow.Time(100 * time.Millisecond), flow.Time(400 * time.Millisecond)}

// control is from where on delays are ones that no relay has.
const control = flow.Time(4 * time.Second)

// bins are the spans over which octets are added up to see whether they vary
// together.
var bins = [...]flow.Time{flow.Time(200 * time.Millisecond), flow.Time(time.Second)}

// Numbers of features of one direction, and of a pair.
const (
	ofDirection = 2*len(widths) + 2*len(bins) + 1
	ofPair      = 2 * ofDirection
)

// following is what one direction shows at its best width.
type following struct {
	onsets int
	share  float64
	delay  time.Duration
}

// compare measures both directions in which data passes through a pair while
// both are open. The features of the weaker direction come first: a relay passes
// data on in both.
func (c *Configuration) compare(a, b *Connection, from, to flow.Time) (features [ofPair]float64, followed [2]following, ok bool) {
	var each [2][ofDirection]float64
	for i, d := range [2][2][]Event{{a.Arriving, b.Leaving}, {b.Arriving, a.Leaving}} {
		in, out := between(d[0], from, to), between(d[1], from, to)
		x, y := onsets(in), onsets(out)
		if len(x) < c.MinOnsets || len(y) < c.MinOnsets {
			return features, followed, false
		}
		each[i], followed[i] = c.measure(in, out, x, y, from, to)
	}
	for k := range ofDirection {
		features[k] = min(each[0][k], each[1][k])
		features[ofDirection+k] = max(each[0][k], each[1][k])
	}
	return features, followed, true
}

func between(all []Event, from, to flow.Time) []Event {
	at := func(t flow.Time) int {
		i, _ := slices.BinarySearchFunc(all, t, func(e Event, t flow.Time) int { return int(min(max(e.Time-t, -1), 1)) })
		return i
	}
	return all[at(from):max(at(from), at(to))]
}

// onsets are the times of events with silence before them.
func onsets(all []Event) (out []flow.Time) {
	last := flow.MinTime
	for _, e := range all {
		if last == flow.MinTime || e.Time-last > silence {
			out = append(out, e.Time)
		}
		last = e.Time
	}
	return out
}

func (c *Configuration) measure(in, out []Event, x, y []flow.Time, from, to flow.Time) (f [ofDirection]float64, best following) {
	most := flow.Time(c.MaxDelay)
	near, far := differences(x, y, 0, most), differences(x, y, control, control+most)
	best.onsets = len(x)
	for i, w := range widths {
		// Each onset counts once within a window, however many follow it there.
		share, delay := peak(near, w, len(x))
		chance, _ := peak(far, w, len(x))
		f[2*i], f[2*i+1] = share, share-chance
		if i == 0 || share-chance > best.share {
			best.share, best.delay = share-chance, time.Duration(delay)
		}
	}
	at := 2 * len(widths)
	for i, w := range bins {
		u, v := binned(in, from, to, w), binned(out, from, to, w)
		f[at+2*i] = correlationAt(u, v, 0, int(most/w)+1)
		f[at+2*i+1] = f[at+2*i] - correlationAt(u, v, int(control/w), int((control+most)/w)+1)
	}
	f[ofDirection-1] = -math.Abs(math.Log(float64(octetsOf(in)+500) / float64(octetsOf(out)+500)))
	return f, best
}

// difference is by how much an event follows an onset.
type difference struct {
	delay flow.Time
	onset int
}

// differences are all delays of y after x in a span, by delay.
func differences(x, y []flow.Time, from, to flow.Time) (all []difference) {
	j := 0
	for i, t := range x {
		for j < len(y) && y[j] < t+from {
			j++
		}
		for k := j; k < len(y) && y[k] < t+to; k++ {
			all = append(all, difference{y[k] - t, i})
		}
	}
	slices.SortFunc(all, func(a, b difference) int { return int(min(max(a.delay-b.delay, -1), 1)) })
	return all
}

// peak is the largest share of n onsets whose delay is within a window of a
// width, and where that begins.
func peak(all []difference, width flow.Time, n int) (share float64, delay flow.Time) {
	within := make([]int32, n)
	distinct, most, i := 0, 0, 0
	for _, d := range all {
		if within[d.onset]++; within[d.onset] == 1 {
			distinct++
		}
		for ; d.delay-all[i].delay > width; i++ {
			if within[all[i].onset]--; within[all[i].onset] == 0 {
				distinct--
			}
		}
		if distinct > most {
			most, delay = distinct, all[i].delay
		}
	}
	return float64(most) / float64(n), delay
}

// binned adds octets up, as square roots: a large transfer must not outweigh all
// else.
func binned(all []Event, from, to, width flow.Time) []float64 {
	sums := make([]float64, min(int((to-from)/width)+1, 1<<16))
	for _, e := range all {
		if i := int((e.Time - from) / width); i < len(sums) {
			sums[i] += float64(e.Size)
		}
	}
	for i, s := range sums {
		sums[i] = math.Sqrt(s)
	}
	return sums
}

// correlationAt is the largest correlation of u with a later v, over lags from
// one number of bins to another.
func correlationAt(u, v []float64, from, to int) float64 {
	best := -1.0
	for lag := from; lag < to && lag+8 < len(u); lag++ {
		best = max(best, correlation(u[:len(u)-lag], v[lag:]))
	}
	return best
}

func correlation(u, v []float64) float64 {
	n := float64(len(u))
	var su, sv, uu, vv, uv float64
	for i, x := range u {
		y := v[i]
		su, sv, uu, vv, uv = su+x, sv+y, uu+x*x, vv+y*y, uv+x*y
	}
	d := math.Sqrt((uu - su*su/n) * (vv - sv*sv/n))
	if !(d > 0) {
		return 0
	}
	return (uv - su*sv/n) / d
}

func octetsOf(all []Event) (sum int) {
	for _, e := range all {
		sum += e.Size
	}
	return sum
}
