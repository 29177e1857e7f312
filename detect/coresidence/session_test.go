package coresidence

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dragnet/flow"
)

// walk is a sequence from a Markov chain over three labels.
func walk(rng *rand.Rand) []int {
	s := []int{rng.IntN(3)}
	for range rng.IntN(12) {
		if rng.IntN(4) == 0 {
			s = append(s, rng.IntN(3))
		} else {
			s = append(s, (s[len(s)-1]+1)%3)
		}
	}
	return s
}

func walks(seed uint64, n int) (all [][]int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for range n {
		all = append(all, walk(rng))
	}
	return all
}

// TestProbabilitySumsToOne sums over all sequences of a length.
func TestProbabilitySumsToOne(t *testing.T) {
	m, err := TrainSessions(walks(1, 200), 3)
	if err != nil {
		t.Fatal(err)
	}
	for length := 1; length <= 6; length++ {
		sum := 0.0
		for k := range int(math.Pow(3, float64(length))) {
			s := make([]int, length)
			for i := range s {
				s[i], k = k%3, k/3
			}
			sum += math.Exp(m.LogProbability(s))
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("length %d: the probabilities sum to %v", length, sum)
		}
	}
}

// TestManyCountsAgreeWithEquation2 has enough sessions that smoothing is
// nothing beside the counts.
func TestManyCountsAgreeWithEquation2(t *testing.T) {
	all := walks(2, 60_000)
	m, err := TrainSessions(all, 3)
	if err != nil {
		t.Fatal(err)
	}
	counted := [][]int{}
	for k, s := range all {
		if k%3 != 2 && len(s) == 4 {
			counted = append(counted, s)
		}
	}
	s := []int{0, 1, 2, 2}
	want := 0.0
	for i, c := range s {
		n, total := 0.0, 0.0
		for _, other := range counted {
			if i == 0 {
				total++
				if other[0] == c {
					n++
				}
				continue
			}
			for k := 1; k < len(other); k++ {
				if other[k-1] == s[i-1] {
					total++
					if other[k] == c {
						n++
					}
				}
			}
		}
		want += math.Log(n / total)
	}
	if got := m.LogProbability(s); math.Abs(got-want) > 0.01 {
		t.Errorf("log probability %v, want %v", got, want)
	}
}

func TestSessionPValuesHold(t *testing.T) {
	m, err := TrainSessions(walks(3, 3000), 3)
	if err != nil {
		t.Fatal(err)
	}
	const n = 4000
	for _, level := range []float64{0.01, 0.05, 0.2} {
		low := [2]int{}
		for _, s := range walks(4, n) {
			a, b, err := m.Judge(s)
			if err != nil {
				t.Fatal(err)
			}
			for k, p := range []float64{a, b} {
				if p <= level {
					low[k]++
				}
			}
		}
		for k, got := range low {
			if float64(got) > 1.25*level*n+4*math.Sqrt(level*n) {
				t.Errorf("statistic %d: %d of %d sessions have p <= %v", k, got, n, level)
			}
		}
	}
	backwards := []int{2, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 0}
	if p, _, _ := m.Judge(backwards); p > 0.01 {
		t.Errorf("a session the wrong way round has p = %v", p)
	}
	if _, p, _ := m.Judge(slices.Repeat([]int{1}, 60)); p > 0.001 {
		t.Errorf("sixty flows of one kind have p = %v", p)
	}
}

func TestSessionsThatCannotBeJudged(t *testing.T) {
	m, err := TrainSessions(walks(3, 100), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]int{nil, {3}, {-1}} {
		if _, _, err := m.Judge(s); err == nil {
			t.Errorf("%v is judged", s)
		}
	}
	if _, err := TrainSessions(walks(3, 29), 3); err == nil {
		t.Error("29 sessions suffice")
	}
}

func TestSessionsGroupFlows(t *testing.T) {
	flows := []flow.Flow{transfer(address(1), address(2), 3.5, 1), transfer(address(1), address(2), 3.1, 1), transfer(address(1), address(3), 3, 1), transfer(address(1), address(2), 4, 1)}
	got := Sessions(flows, time.Second)
	if len(got) != 3 || !slices.Equal(got[1].Flows, []int{1, 0}) || got[0].Destination != address(3) || !slices.Equal(got[2].Flows, []int{3}) {
		t.Errorf("%+v", got)
	}
}

func TestFlowsUnlikeAllOthersLieOutside(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	var flows []flow.Flow
	for range 400 {
		f := transfer(address(1), address(2), 0, 1+rng.Float64()*0.2)
		f.RespIPBytes += uint64(rng.IntN(500))
		flows = append(flows, f)
	}
	odd := transfer(address(1), address(2), 0, 1)
	odd.OrigFlags, odd.OrigPkts, odd.OrigIPBytes = flow.RST, 100_000, 140_000_000
	for _, method := range []Method{KMeans, SingleLinkage, DBSCAN} {
		m, err := TrainFlows(flows, method, DefaultFlowOptions())
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		outside := 0
		for i := range flows {
			label, score := m.Judge(&flows[i])
			if label < 0 || label >= m.Groups() {
				t.Fatalf("%s: label %d of %d", method, label, m.Groups())
			}
			if score > 3 {
				outside++
			}
		}
		if _, score := m.Judge(&odd); score < 3 || outside > 12 {
			t.Errorf("%s: the odd flow has %v, and %d others lie outside", method, score, outside)
		}
	}
	if _, err := TrainFlows(nil, KMeans, DefaultFlowOptions()); err == nil {
		t.Error("no flows suffice")
	}
	if _, err := TrainFlows(flows, "other", DefaultFlowOptions()); err == nil {
		t.Error("any method is accepted")
	}
	if n := len(Features(&odd)); n != len(FeatureNames) {
		t.Errorf("%d features and %d names", n, len(FeatureNames))
	}
}
