package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// KMeans divides points into at most k clusters (Lloyd 1982), starting from
// centres chosen by k-means++ (Arthur and Vassilvitskii 2007). It ends when no
// label changes, or after rounds. Fewer centres come back when the points have
// fewer than k different values.
func KMeans(points [][]float64, k, rounds int, seed uint64) (centres [][]float64, labels []int, err error) {
	if err := checkPoints(points); err != nil {
		return nil, nil, err
	}
	if k < 1 || rounds < 1 {
		return nil, nil, fmt.Errorf("k-means needs at least one cluster and one round, not %d and %d", k, rounds)
	}
	centres = chooseCentres(points, k, rand.New(rand.NewPCG(seed, 0x6b6d65616e73)))
	labels = make([]int, len(points))
	for i := range labels {
		labels[i] = Noise
	}
	for range rounds {
		changed := false
		for i, p := range points {
			if c, _ := NearestCentre(centres, p); c != labels[i] {
				labels[i], changed = c, true
			}
		}
		if !changed {
			break
		}
		moveCentres(centres, points, labels)
	}
	for i, p := range points { // after the last move, when rounds ran out
		labels[i], _ = NearestCentre(centres, p)
	}
	return centres, labels, nil
}

// chooseCentres takes each next centre with a probability that grows with the
// squared distance to the nearest one chosen.
func chooseCentres(points [][]float64, k int, rng *rand.Rand) [][]float64 {
	copyOf := func(i int) []float64 { return append([]float64(nil), points[i]...) }
	centres := [][]float64{copyOf(rng.IntN(len(points)))}
	away := make([]float64, len(points))
	for i := range away {
		away[i] = math.Inf(1)
	}
	for len(centres) < k {
		total, last := 0.0, centres[len(centres)-1]
		for i, p := range points {
			away[i] = min(away[i], squaredDistance(p, last))
			total += away[i]
		}
		if total == 0 {
			break
		}
		at, chosen := rng.Float64()*total, -1
		for i, d := range away {
			if d == 0 {
				continue
			}
			chosen = i
			if at -= d; at < 0 {
				break
			}
		}
		centres = append(centres, copyOf(chosen))
	}
	return centres
}

// moveCentres puts each centre into the mean of its points; a centre without
// points stays.
func moveCentres(centres, points [][]float64, labels []int) {
	sizes := make([]float64, len(centres))
	sums := make([][]float64, len(centres))
	for c := range sums {
		sums[c] = make([]float64, len(centres[c]))
	}
	for i, p := range points {
		sizes[labels[i]]++
		for d, v := range p {
			sums[labels[i]][d] += v
		}
	}
	for c, n := range sizes {
		for d := range sums[c] {
			if n > 0 {
				centres[c][d] = sums[c][d] / n
			}
		}
	}
}

// NearestCentre is the index of the centre nearest to p, the first of equals,
// and its distance.
func NearestCentre(centres [][]float64, p []float64) (index int, distance float64) {
	best := math.Inf(1)
	for c, centre := range centres {
		if d := squaredDistance(p, centre); d < best {
			index, best = c, d
		}
	}
	return index, math.Sqrt(best)
}
