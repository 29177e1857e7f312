package cluster

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
)

// blobs are n points around a few places, some twice, and some alone.
func blobs(rng *rand.Rand, n, d int) [][]float64 {
	points := make([][]float64, n)
	for i := range points {
		p := make([]float64, d)
		place := rng.IntN(4)
		for c := range p {
			p[c] = float64(place*(c%3))*2 + rng.NormFloat64()*0.4
			if rng.IntN(12) == 0 {
				p[c] += rng.NormFloat64() * 6
			}
		}
		if i > 0 && rng.IntN(10) == 0 {
			copy(p, points[rng.IntN(i)])
		}
		points[i] = p
	}
	return points
}

// slowDBSCAN is the definition: neighbours by looking at all pairs.
func slowDBSCAN(points [][]float64, radius float64, least int) ([]int, []bool) {
	n := len(points)
	near := func(i, j int) bool { return squaredDistance(points[i], points[j]) <= radius*radius }
	cores, labels := make([]bool, n), make([]int, n)
	for i := range points {
		count := 0
		for j := range points {
			if near(i, j) {
				count++
			}
		}
		cores[i], labels[i] = count >= least, Noise
	}
	clusters := 0
	for i := range points {
		if !cores[i] || labels[i] != Noise {
			continue
		}
		labels[i] = clusters
		for queue := []int{i}; len(queue) > 0; queue = queue[1:] {
			for j := range points {
				if cores[j] && labels[j] == Noise && near(queue[0], j) {
					labels[j] = clusters
					queue = append(queue, j)
				}
			}
		}
		clusters++
	}
	for i := range points {
		best := math.Inf(1)
		for j := range points {
			if d := squaredDistance(points[i], points[j]); !cores[i] && cores[j] && near(i, j) && d < best {
				labels[i], best = labels[j], d
			}
		}
	}
	return labels, cores
}

func TestDBSCANAgainstItsDefinition(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		points := blobs(rng, 1+rng.IntN(300), 1+rng.IntN(6))
		radius, least := 0.2+rng.Float64()*2, 1+rng.IntN(8)
		labels, cores, err := DBSCAN(points, radius, least)
		if err != nil {
			t.Fatal(err)
		}
		wantLabels, wantCores := slowDBSCAN(points, radius, least)
		for i := range points {
			if labels[i] != wantLabels[i] || cores[i] != wantCores[i] {
				t.Fatalf("seed %d, point %d: label %d core %v, want %d %v", seed, i, labels[i], cores[i], wantLabels[i], wantCores[i])
			}
		}
	}
}

// slowLinkage merges the two nearest clusters until the nearest are too far.
func slowLinkage(points [][]float64, height float64) []int {
	labels := make([]int, len(points))
	for i := range labels {
		labels[i] = i
	}
	for {
		a, b, best := -1, -1, height*height
		for i := range points {
			for j := range i {
				if d := squaredDistance(points[i], points[j]); labels[i] != labels[j] && d <= best {
					a, b, best = labels[i], labels[j], d
				}
			}
		}
		if a < 0 {
			return labels
		}
		for i, l := range labels {
			if l == a {
				labels[i] = b
			}
		}
	}
}

func TestSingleLinkageAgainstMerging(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		points := blobs(rng, 2+rng.IntN(70), 1+rng.IntN(4))
		height := 0.2 + rng.Float64()
		got, err := SingleLinkage(points, height)
		if err != nil {
			t.Fatal(err)
		}
		want := slowLinkage(points, height)
		for i := range points {
			for j := range i {
				if (got[i] == got[j]) != (want[i] == want[j]) {
					t.Fatalf("seed %d: points %d and %d", seed, i, j)
				}
			}
		}
	}
}

// slowKMeans is Lloyd's iteration written down again, from the same start.
func slowKMeans(points, centres [][]float64, rounds int) []int {
	labels := make([]int, len(points))
	assign := func() {
		for i, p := range points {
			for c := range centres {
				if squaredDistance(p, centres[c]) < squaredDistance(p, centres[labels[i]]) {
					labels[i] = c
				}
			}
		}
	}
	for range rounds {
		for i := range labels {
			labels[i] = 0
		}
		assign()
		for c := range centres {
			mean, n := make([]float64, len(centres[c])), 0.0
			for i, p := range points {
				if labels[i] == c {
					n++
					for d := range p {
						mean[d] += p[d]
					}
				}
			}
			for d := range mean {
				if n > 0 {
					centres[c][d] = mean[d] / n
				}
			}
		}
	}
	for i := range labels {
		labels[i] = 0
	}
	assign()
	return labels
}

func TestKMeansAgainstLloyd(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 3))
		points := blobs(rng, 1+rng.IntN(200), 1+rng.IntN(5))
		k := 1 + rng.IntN(6)
		_, got, err := KMeans(points, k, 400, seed)
		if err != nil {
			t.Fatal(err)
		}
		start := chooseCentres(points, k, rand.New(rand.NewPCG(seed, 0x6b6d65616e73)))
		for i, want := range slowKMeans(points, start, 400) {
			if got[i] != want {
				t.Fatalf("seed %d, point %d: %d, want %d", seed, i, got[i], want)
			}
		}
	}
}

func TestKMeansOfFewerValuesThanClusters(t *testing.T) {
	centres, labels, err := KMeans([][]float64{{1, 1}, {1, 1}, {2, 2}}, 5, 10, 1)
	if err != nil || len(centres) != 2 || labels[0] != labels[1] || labels[0] == labels[2] {
		t.Errorf("centres %v, labels %v, error %v", centres, labels, err)
	}
}

func TestNearestAgainstAll(t *testing.T) {
	check := func(seed uint64) bool {
		rng := rand.New(rand.NewPCG(seed, 4))
		points := blobs(rng, 1+rng.IntN(200), 1+rng.IntN(6))
		q := blobs(rng, 1, len(points[0]))[0]
		got, distance := NewTree(points).Nearest(q)
		want, best := NearestCentre(points, q)
		return got == want && distance == best
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	if i, _ := NewTree(nil).Nearest([]float64{1}); i != -1 {
		t.Errorf("an empty tree has a nearest point %d", i)
	}
}

func TestPointsThatCannotBeGrouped(t *testing.T) {
	for name, points := range map[string][][]float64{
		"none": nil, "no columns": {{}}, "ragged": {{1, 2}, {1}}, "not a number": {{math.NaN()}}, "infinite": {{1}, {math.Inf(1)}},
	} {
		if _, _, err := KMeans(points, 2, 10, 1); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: k-means gives %v", name, err)
		}
		if _, _, err := DBSCAN(points, 1, 2); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: DBSCAN gives %v", name, err)
		}
		if _, err := FitScale(points); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: scale gives %v", name, err)
		}
	}
}

func TestScaleOfAConstantColumn(t *testing.T) {
	s, err := FitScale([][]float64{{0.1, 1}, {0.1, 3}, {0.1, 5}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Apply([]float64{0.1, 3}); math.Abs(got[0]) > 1e-12 || math.Abs(got[1]) > 1e-12 {
		t.Errorf("the mean becomes %v", got)
	}
	if s.Deviation[0] != 1 || math.Abs(s.Deviation[1]-math.Sqrt(8.0/3)) > 1e-12 {
		t.Errorf("deviations %v", s.Deviation)
	}
}

// BenchmarkDBSCAN is one million flows of eight features; slow is the definition
// on few points, as its time grows with their square.
func BenchmarkDBSCAN(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		points := blobs(rand.New(rand.NewPCG(1, 5)), n, 8)
		b.Run(map[int]string{100_000: "100k", 1_000_000: "1M"}[n], func(b *testing.B) {
			for b.Loop() {
				if _, _, err := DBSCAN(points, 0.9, 10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	points := blobs(rand.New(rand.NewPCG(1, 5)), 5000, 8)
	b.Run("definition/5k", func(b *testing.B) {
		for b.Loop() {
			slowDBSCAN(points, 0.9, 10)
		}
	})
	b.Run("5k", func(b *testing.B) {
		for b.Loop() {
			DBSCAN(points, 0.9, 10)
		}
	})
}
