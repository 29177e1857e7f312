// Package family sorts samples of several worms into families: pairwise
// similarity and recursive normalised cuts (Tang 2006, section 3.6), and the
// mixture of many blocks with Gaussian families (chapter 4). The number of
// families is not an input.
package family

import (
	"cmp"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"

	"dragnet/dossier"
	"dragnet/signature/pads"
)

// Similarity compares two samples; it is symmetric.
type Similarity func(a, b *Sample) float64

// Sample is a payload with what similarities need precomputed.
type Sample struct {
	Bytes []byte
	// normal marks bytes in strings of normal traffic.
	normal []bool
	// grams are the four-byte strings outside normal traffic with their
	// positions: string << 32 | position, sorted.
	grams     []uint64
	histogram [256]float64
}

// NewSample prepares payload. Strings of normal (which may be nil) do not
// count as common to two samples.
func NewSample(payload []byte, normal *pads.Grams) *Sample {
	s := &Sample{Bytes: payload, normal: normal.Covered(payload)}
	var g uint32
	for i, b := range payload {
		s.histogram[b]++
		if g = g<<8 | uint32(b); i >= 3 && !(s.normal[i] && s.normal[i-3]) {
			s.grams = append(s.grams, uint64(g)<<32|uint64(i-3))
		}
	}
	slices.Sort(s.grams)
	for b := range s.histogram {
		s.histogram[b] = (s.histogram[b] + 0.5) / (float64(len(payload)) + 128)
	}
	return s
}

// eachShared calls f with the positions of the four-byte strings that a and b
// share; of a string repeated in b only the first position counts.
func eachShared(a, b *Sample, f func(gram uint32, inA, inB int)) {
	i, j := 0, 0
	for i < len(a.grams) && j < len(b.grams) {
		g, h := a.grams[i]>>32, b.grams[j]>>32
		switch {
		case g < h:
			i++
		case g > h:
			j++
		default:
			f(uint32(g), int(uint32(a.grams[i])), int(uint32(b.grams[j])))
			i++
		}
	}
}

// PADS is equation 3-4: the summed scores of both samples against the signature
// of the given width that fits the pair best. With two samples the signature is
// decided by one alignment, so it is searched directly: along the diagonals on
// which the samples share four-byte strings. Bytes of normal traffic are not
// counted.
func PADS(bg *dossier.Background, width int) Similarity {
	const pseudo = 0.01
	n := 2 + 256*pseudo
	// A position where both agree on x, and one where they do not.
	var same, differ [256]float64
	for x, f := range bg {
		same[x] = math.Log((2 + pseudo) / n / f)
		differ[x] = math.Log((1 + pseudo) / n / f)
	}
	return func(a, b *Sample) float64 {
		best := 0.0
		for _, d := range sharedDiagonals(a, b, bg) {
			best = max(best, bestOnDiagonal(a, b, d, width, &same, &differ))
		}
		return best / float64(width)
	}
}

// mostDiagonals bounds the alignments tried per pair.
const mostDiagonals = 12

// sharedDiagonals lists the offsets (position in b minus position in a) on
// which a and b share the most surprising strings.
func sharedDiagonals(a, b *Sample, bg *dossier.Background) []int {
	votes := map[int]float64{}
	eachShared(a, b, func(g uint32, inA, inB int) {
		votes[inB-inA] -= math.Log(bg[byte(g)] * bg[byte(g>>8)] * bg[byte(g>>16)] * bg[byte(g>>24)])
	})
	all := slices.Sorted(maps.Keys(votes))
	slices.SortStableFunc(all, func(p, q int) int { return cmp.Compare(votes[q], votes[p]) })
	return all[:min(len(all), mostDiagonals)]
}

func bestOnDiagonal(a, b *Sample, d, width int, same, differ *[256]float64) float64 {
	from, to := max(0, -d), min(len(a.Bytes), len(b.Bytes)-d)
	best, sum := 0.0, 0.0
	value := func(i int) float64 {
		x, y := a.Bytes[i], b.Bytes[i+d]
		switch {
		case a.normal[i] || b.normal[i+d]:
			return 0
		case x != y:
			// Each score also holds the other's byte; below 0 the samples
			// differ at that position, whatever the background.
			return min(0, differ[x]) + min(0, differ[y])
		}
		return 2 * same[x]
	}
	for i := from; i < to; i++ {
		sum += value(i)
		if i >= from+width {
			sum -= value(i - width)
		}
		if i >= from+width-1 {
			best = max(best, sum)
		}
	}
	return best
}

// KL is the paper's first naive similarity: the symmetric Kullback-Leibler
// divergence of the byte histograms, as exp(-divergence).
func KL(a, b *Sample) float64 {
	sum := 0.0
	for x := range a.histogram {
		sum += (a.histogram[x] - b.histogram[x]) * math.Log(a.histogram[x]/b.histogram[x])
	}
	return math.Exp(-sum)
}

// CommonSubstring is the paper's second: the length of the longest common
// substring, found along the diagonals of shared four-byte strings.
func CommonSubstring(a, b *Sample) float64 {
	best := 0
	eachShared(a, b, func(_ uint32, p, q int) {
		n := 0
		for p+n < len(a.Bytes) && q+n < len(b.Bytes) && a.Bytes[p+n] == b.Bytes[q+n] {
			n++
		}
		best = max(best, n)
	})
	return float64(best)
}

// Matrix is the similarity of every pair, 0 on the diagonal; values below 0
// become 0, because normalised cuts need weights.
func Matrix(samples []*Sample, similar Similarity) [][]float64 {
	m := make([][]float64, len(samples))
	for i := range m {
		m[i] = make([]float64, len(samples))
	}
	var wait sync.WaitGroup
	rows := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range rows {
				for j := range i {
					m[i][j] = max(0, similar(samples[i], samples[j]))
				}
			}
		}()
	}
	for i := range samples {
		rows <- i
	}
	close(rows)
	wait.Wait()
	for i := range m {
		for j := range i {
			m[j][i] = m[i][j]
		}
	}
	return m
}
