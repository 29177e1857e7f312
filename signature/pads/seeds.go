package pads

import (
	"math"
	"slices"

	"dragnet/dossier"
)

// window names W bytes of one sample.
type window struct{ sample, start int }

// sharedWindows finds up to n windows full of strings that many samples share
// and that the background makes unlikely. With 256 letters such strings are far
// better starts than random ones; each window found removes its strings, so the
// next one is different.
func (p *problem) sharedWindows(n int) []window {
	for k := 6; k >= 4; k-- {
		weights := p.stringWeights(k)
		var found []window
		for len(found) < n {
			w, ok := p.heaviestWindow(weights)
			if !ok {
				break
			}
			found = append(found, w)
			p.clearStrings(weights, w, k)
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// stringWeights gives each k-byte string of each sample the number of samples
// that share it times its surprise in nats, 0 below the least share.
func (p *problem) stringWeights(k int) [][]float32 {
	type occurrence struct {
		hash   uint64
		sample int32
	}
	var all []occurrence
	for _, i := range p.usable {
		eachString(p.samples[i], k, func(_ int, h uint64) { all = append(all, occurrence{h, int32(i)}) })
	}
	slices.SortFunc(all, func(a, b occurrence) int {
		if a.hash != b.hash {
			if a.hash < b.hash {
				return -1
			}
			return 1
		}
		return int(a.sample - b.sample)
	})
	share := map[uint64]int32{}
	least := int32(max(2, len(p.usable)/10))
	for from := 0; from < len(all); {
		to, in := from, int32(0)
		for last := int32(-1); to < len(all) && all[to].hash == all[from].hash; to++ {
			if all[to].sample != last {
				last = all[to].sample
				in++
			}
		}
		if in >= least {
			share[all[from].hash] = in
		}
		from = to
	}
	weights := make([][]float32, len(p.samples))
	for _, i := range p.usable {
		s := p.samples[i]
		weights[i] = make([]float32, len(s))
		eachString(s, k, func(at int, h uint64) {
			if in := share[h]; in > 0 {
				surprise := float32(0)
				for _, x := range s[at : at+k] {
					surprise -= p.logBg[x]
				}
				weights[i][at] = float32(in) * max(0, surprise-float32(k)*commonByte)
			}
		})
	}
	return weights
}

// commonByte is the surprise, in nats, of a byte that occurs once in 20: text
// that many samples share should not outweigh rarer strings that fewer do.
const commonByte = 3

func (p *problem) heaviestWindow(weights [][]float32) (window, bool) {
	var best window
	top := float64(0)
	for _, i := range p.usable {
		sum := 0.0
		for at, w := range weights[i] {
			sum += float64(w)
			if at >= p.o.Width {
				sum -= float64(weights[i][at-p.o.Width])
			}
			if a := at - p.o.Width + 1; a >= 0 && !p.blocked[i][a] && sum > top*(1+1e-9)+1e-3 {
				top, best = sum, window{i, a}
			}
		}
	}
	return best, top > 0 && !math.IsInf(top, 0)
}

// clearStrings clears, in all samples, the strings that lie in w.
func (p *problem) clearStrings(weights [][]float32, w window, k int) {
	in := map[uint64]bool{}
	eachString(p.samples[w.sample][w.start:w.start+p.o.Width], min(k, p.o.Width), func(_ int, h uint64) { in[h] = true })
	for _, i := range p.usable {
		eachString(p.samples[i], k, func(at int, h uint64) {
			if in[h] {
				weights[i][at] = 0
			}
		})
	}
	for at := w.start; at < w.start+p.o.Width && at < len(weights[w.sample]); at++ {
		weights[w.sample][at] = 0
	}
}

// SharedWindows finds up to n windows of width bytes that are full of strings
// which many samples share and neither the background nor normal makes likely.
func SharedWindows(samples [][]byte, bg *dossier.Background, width, n int, normal *Grams) [][]byte {
	p := newProblem(samples, bg, Options{Width: width, Normal: normal}.withDefaults())
	var out [][]byte
	for _, w := range p.sharedWindows(n) {
		out = append(out, samples[w.sample][w.start:w.start+width])
	}
	return out
}
