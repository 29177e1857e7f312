package coresidence

import (
	"fmt"
	"math"
	"slices"

	"dragnet/detect/cluster"
	"dragnet/flow"
)

// FeatureNames are the columns of Features, in order (section 3.1: duration,
// rates each way, mean packet sizes, flags). Rates and times are logarithms, as
// they spread over powers of ten.
var FeatureNames = []string{
	"log duration", "log packets/s sent", "log packets/s received", "log bytes/s sent", "log bytes/s received",
	"mean packet sent", "mean packet received", "SYN", "FIN", "RST", "PSH",
}

// shortest is the duration below which a rate is not computed with the flow's
// own: one packet has none.
const shortest = 0.001

// Features are the numbers that describe one flow in one interval.
func Features(f *flow.Flow) []float64 {
	seconds := max(shortest, f.Duration.Seconds())
	mean := func(bytes, packets uint64) float64 {
		if packets == 0 {
			return 0
		}
		return float64(bytes) / float64(packets)
	}
	flag := func(bit flow.TCPFlags) float64 {
		if (f.OrigFlags|f.RespFlags)&bit != 0 {
			return 1
		}
		return 0
	}
	rate := func(n uint64) float64 { return math.Log1p(float64(n) / seconds) }
	return []float64{
		math.Log(seconds), rate(f.OrigPkts), rate(f.RespPkts), rate(f.OrigIPBytes), rate(f.RespIPBytes),
		mean(f.OrigIPBytes, f.OrigPkts), mean(f.RespIPBytes, f.RespPkts), flag(flow.SYN), flag(flow.FIN), flag(flow.RST), flag(flow.PSH),
	}
}

// Method is how legitimate flows are divided into groups.
type Method string

// The methods of section 3.1.
const (
	KMeans        Method = "k-means"
	SingleLinkage Method = "single linkage"
	DBSCAN        Method = "DBSCAN"
)

// FlowModel knows the groups of legitimate flows.
type FlowModel struct {
	scale  cluster.Scale
	points [][]float64   // those that represent a group
	tree   *cluster.Tree // over points
	labels []int         // of those points
	unit   []float64     // typical distance within each group
	groups int
}

// FlowOptions are the parameters of the methods.
type FlowOptions struct {
	K      int     // k-means: groups
	Radius float64 // linkage and DBSCAN: distance in standard deviations
	Least  int     // DBSCAN: neighbours of a core; linkage: smallest group
	Seed   uint64
}

// DefaultFlowOptions suit some thousands of flows.
func DefaultFlowOptions() FlowOptions { return FlowOptions{K: 8, Radius: 0.8, Least: 8, Seed: 1} }

// TrainFlows groups legitimate flows. Points in groups of single linkage smaller
// than o.Least, and the noise of DBSCAN, stand for no group.
func TrainFlows(flows []flow.Flow, m Method, o FlowOptions) (*FlowModel, error) {
	points := make([][]float64, len(flows))
	for i := range flows {
		points[i] = Features(&flows[i])
	}
	scale, err := cluster.FitScale(points)
	if err != nil {
		return nil, fmt.Errorf("train on %d flows: %w", len(flows), err)
	}
	for i, p := range points {
		points[i] = scale.Apply(p)
	}
	model := &FlowModel{scale: scale}
	switch m {
	case KMeans:
		centres, labels, err := cluster.KMeans(points, o.K, 200, o.Seed)
		if err != nil {
			return nil, err
		}
		model.useCentres(points, centres, labels)
		return model, nil
	case SingleLinkage:
		labels, err := cluster.SingleLinkage(points, o.Radius)
		if err != nil {
			return nil, err
		}
		sizes := map[int]int{}
		for _, l := range labels {
			sizes[l]++
		}
		return model, model.useMembers(points, labels, o.Radius, func(i int) bool { return sizes[labels[i]] >= o.Least })
	case DBSCAN:
		labels, cores, err := cluster.DBSCAN(points, o.Radius, o.Least)
		if err != nil {
			return nil, err
		}
		return model, model.useMembers(points, labels, o.Radius, func(i int) bool { return cores[i] })
	}
	return nil, fmt.Errorf("no method is called %q", m)
}

func (m *FlowModel) useCentres(points, centres [][]float64, labels []int) {
	m.groups, m.unit = len(centres), make([]float64, len(centres))
	sizes := make([]float64, len(centres))
	for i, p := range points {
		_, d := cluster.NearestCentre(centres, p)
		m.unit[labels[i]] += d * d
		sizes[labels[i]]++
	}
	for c := range centres {
		m.labels = append(m.labels, c)
		// A group of equal points has no radius; a hundredth of a deviation is one.
		m.unit[c] = max(0.01, math.Sqrt(m.unit[c]/max(1, sizes[c])))
	}
	m.points, m.tree = centres, cluster.NewTree(centres)
}

func (m *FlowModel) useMembers(points [][]float64, labels []int, radius float64, isMember func(i int) bool) error {
	var kept [][]float64
	for i, p := range points {
		if isMember(i) {
			kept = append(kept, p)
			m.labels = append(m.labels, labels[i])
			m.groups = max(m.groups, labels[i]+1)
		}
	}
	if len(kept) == 0 {
		return fmt.Errorf("%d flows form no group within %v: train on more, or with a larger radius", len(points), radius)
	}
	m.unit = slices.Repeat([]float64{radius}, m.groups)
	m.points, m.tree = kept, cluster.NewTree(kept)
	return nil
}

// Groups is the number of labels that Judge gives.
func (m *FlowModel) Groups() int { return m.groups }

// Judge gives the group nearest to f, and how far outside f is: the distance as
// a multiple of what is usual within the group, so that above 1 it lies outside
// every cluster.
func (m *FlowModel) Judge(f *flow.Flow) (label int, score float64) {
	i, d := m.tree.Nearest(m.scale.Apply(Features(f)))
	label = m.labels[i]
	return label, d / m.unit[label]
}
