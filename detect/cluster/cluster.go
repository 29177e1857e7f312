// Package cluster groups points: k-means, single linkage and DBSCAN, all exact
// and deterministic. Points are rows of equal length; the same input and seed
// give the same labels.
package cluster

import (
	"errors"
	"fmt"
	"math"
)

// Noise is the label of a point that belongs to no cluster.
const Noise = -1

// Scale standardises columns: each value minus Mean, divided by Deviation.
type Scale struct {
	Mean      []float64 `json:"mean"`
	Deviation []float64 `json:"deviation"`
}

// FitScale takes mean and standard deviation of every column. A constant column
// has deviation 1, so that it adds nothing to a distance between like points.
func FitScale(points [][]float64) (Scale, error) {
	if err := checkPoints(points); err != nil {
		return Scale{}, err
	}
	d, n := len(points[0]), float64(len(points))
	s := Scale{Mean: make([]float64, d), Deviation: make([]float64, d)}
	for _, p := range points {
		for c, v := range p {
			s.Mean[c] += v / n
		}
	}
	for _, p := range points {
		for c, v := range p {
			s.Deviation[c] += (v - s.Mean[c]) * (v - s.Mean[c]) / n
		}
	}
	for c, v := range s.Deviation {
		// Rounding leaves a constant column a little above zero.
		if s.Deviation[c] = math.Sqrt(v); s.Deviation[c] <= 1e-9*math.Abs(s.Mean[c]) || v == 0 {
			s.Deviation[c] = 1
		}
	}
	return s, nil
}

// Apply is point standardised; point stays as it is.
func (s Scale) Apply(point []float64) []float64 {
	out := make([]float64, len(point))
	for c, v := range point {
		out[c] = (v - s.Mean[c]) / s.Deviation[c]
	}
	return out
}

// ErrPoints is wrapped by every error about points that cannot be grouped.
var ErrPoints = errors.New("points cannot be grouped")

func checkPoints(points [][]float64) error {
	if len(points) == 0 || len(points[0]) == 0 {
		return fmt.Errorf("%w: there are none", ErrPoints)
	}
	for i, p := range points {
		if len(p) != len(points[0]) {
			return fmt.Errorf("%w: point %d has %d columns and point 0 has %d", ErrPoints, i, len(p), len(points[0]))
		}
		for c, v := range p {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%w: point %d, column %d is not a finite number", ErrPoints, i, c)
			}
		}
	}
	return nil
}

func squaredDistance(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += (v - b[i]) * (v - b[i])
	}
	return sum
}
