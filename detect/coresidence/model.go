package coresidence

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"dragnet/detect/cluster"
	"dragnet/detect/synchrony"
	"dragnet/flow"
)

// TrafficModel knows legitimate traffic in the flow and in the session domain, with what
// is needed to give p-values.
type TrafficModel struct {
	flows    *FlowModel
	sessions *SessionModel
	// held are the scores of held-out flows, ascending.
	held []float64
	// Length is the interval within which flows form a session.
	Length time.Duration
	// Method and Trained say what it was made of.
	Method  Method
	Trained int
}

// Train makes a model of legitimate flows, seen by one observer each. It groups two
// thirds of them; the others, as every third flow in order of time, say how far
// outside legitimate flows lie.
func Train(flows []flow.Flow, method Method, o FlowOptions, length time.Duration) (*TrafficModel, error) {
	if length <= 0 {
		return nil, fmt.Errorf("sessions of %s: a length above 0 is needed", length)
	}
	ordered := slices.Clone(flows)
	slices.SortStableFunc(ordered, func(a, b flow.Flow) int { return cmp.Compare(a.Start, b.Start) })
	var grouped, held []flow.Flow
	for i, f := range ordered {
		if i%3 == 2 {
			held = append(held, f)
		} else {
			grouped = append(grouped, f)
		}
	}
	if len(held) < 30 {
		return nil, fmt.Errorf("train on %d flows: at least 90 are needed", len(flows))
	}
	m := &TrafficModel{Length: length, Method: method, Trained: len(flows)}
	var err error
	if m.flows, err = TrainFlows(grouped, method, o); err != nil {
		return nil, err
	}
	for i := range held {
		_, score := m.flows.Judge(&held[i])
		m.held = append(m.held, score)
	}
	slices.Sort(m.held)
	sequences, _ := m.labelSessions(ordered)
	if m.sessions, err = TrainSessions(sequences, m.flows.Groups()); err != nil {
		return nil, err
	}
	return m, nil
}

// Groups is the number of groups of flows.
func (m *TrafficModel) Groups() int { return m.flows.Groups() }

func (m *TrafficModel) labelSessions(flows []flow.Flow) (all [][]int, sessions []Session) {
	sessions = Sessions(flows, m.Length)
	for _, s := range sessions {
		labels := make([]int, len(s.Flows))
		for k, i := range s.Flows {
			labels[k], _ = m.flows.Judge(&flows[i])
		}
		all = append(all, labels)
	}
	return all, sessions
}

// outside is the share of legitimate flows, or sessions, that count as lying
// outside.
const outside = 0.05

// OddMachine is a machine with more flows, or sessions, unlike legitimate ones than
// others have.
type OddMachine struct {
	VM VM `json:"vm"`
	// Outside of Seen are as odd as one legitimate flow or session in twenty.
	Seen    int `json:"seen"`
	Outside int `json:"outside"`
	// Domain is what was counted.
	Domain string `json:"domain"`
	// P is the chance of as many, if those of the machine are like those held out
	// in training.
	P float64 `json:"p"`
}

// The domains of OddMachine.
const (
	FlowDomain         = "flows"
	SequenceDomain     = "session sequences"
	DistributionDomain = "session distributions"
)

// tally counts by machine.
type tally struct {
	domain  string
	held    int
	at      map[netip.Addr]int
	results []OddMachine
}

func newTally(domain string, held int, vms []VM) *tally {
	t := &tally{domain, held, map[netip.Addr]int{}, make([]OddMachine, len(vms))}
	for i, vm := range vms {
		t.at[vm.Address], t.results[i] = i, OddMachine{VM: vm, Domain: domain}
	}
	return t
}

func (t *tally) addSession(odd bool, ends ...netip.Addr) {
	for _, end := range ends {
		if i, ok := t.at[end]; ok {
			t.results[i].Seen++
			if odd {
				t.results[i].Outside++
			}
		}
	}
}

// tailProbability returns the chance that at least k of n are beyond the limit that a share
// outside of the held-out ones is beyond: a beta-binomial, as the limit was itself
// found from few.
func (t *tally) tailProbability(k, n int) float64 {
	beyond := math.Floor(outside * float64(t.held+1))
	if k == 0 || beyond < 1 {
		return 1
	}
	logBeta := func(a, b float64) float64 {
		x, _ := math.Lgamma(a)
		y, _ := math.Lgamma(b)
		z, _ := math.Lgamma(a + b)
		return x + y - z
	}
	a, b, sum := beyond, float64(t.held+1)-beyond, 0.0
	for j := k; j <= n; j++ {
		x, y := float64(j), float64(n-j)
		sum += math.Exp(-math.Log(float64(n+1)) - logBeta(x+1, y+1) + logBeta(x+a, y+b) - logBeta(a, b))
	}
	return min(1, sum)
}

// discoverOdd returns the machines with too many, by rate of false discoveries.
func (t *tally) discoverOdd(rate float64) (odd []OddMachine) {
	var p []float64
	for i := range t.results {
		t.results[i].P = t.tailProbability(t.results[i].Outside, t.results[i].Seen)
		p = append(p, t.results[i].P)
	}
	for _, i := range synchrony.Discoveries(p, len(p), rate) {
		odd = append(odd, t.results[i])
	}
	slices.SortStableFunc(odd, func(a, b OddMachine) int { return cmp.Compare(a.P, b.P) })
	return odd
}

// JudgeFlows counts for each machine the flows outside every cluster (section
// 3.1), and returns the machines with too many.
func (m *TrafficModel) JudgeFlows(flows []flow.Flow, vms []VM, rate float64) []OddMachine {
	t := newTally(FlowDomain, len(m.held), vms)
	for k := range flows {
		_, score := m.flows.Judge(&flows[k])
		t.addSession(rankOf(m.held, score) <= outside, flows[k].Orig, flows[k].Resp)
	}
	return t.discoverOdd(rate)
}

// JudgeSessions counts for each machine the sessions that are odd by their sequence
// of flows, and by their distribution (section 3.2), and returns the machines with
// too many of either. A single session cannot be singled out: its p-value is not
// below one in the number of sessions held out.
func (m *TrafficModel) JudgeSessions(flows []flow.Flow, vms []VM, rate float64) (odd []OddMachine, judged int, err error) {
	labels, sessions := m.labelSessions(flows)
	sequences := newTally(SequenceDomain, len(m.sessions.sequence), vms)
	distributions := newTally(DistributionDomain, len(m.sessions.distribution), vms)
	for k, s := range sessions {
		sequence, distribution, err := m.sessions.Judge(labels[k])
		if err != nil {
			return nil, 0, err
		}
		sequences.addSession(sequence <= outside, s.Source, s.Destination)
		distributions.addSession(distribution <= outside, s.Source, s.Destination)
	}
	odd = slices.Concat(sequences.discoverOdd(rate/2), distributions.discoverOdd(rate/2))
	return odd, len(sessions), nil
}

// modelFile is the JSON form of a model.
type modelFile struct {
	Version      int           `json:"version"`
	Method       Method        `json:"method"`
	Trained      int           `json:"trained_flows"`
	Features     []string      `json:"features"`
	Scale        cluster.Scale `json:"scale"`
	Points       [][]float64   `json:"points"`
	Labels       []int         `json:"labels"`
	Units        []float64     `json:"units"`
	Held         []float64     `json:"held_out_scores"`
	Length       time.Duration `json:"session_nanoseconds"`
	Sizes        []float64     `json:"session_sizes"`
	First        [][]float64   `json:"first"` // by length; null where there is none
	Pairs        [][]float64   `json:"pairs"`
	Mean         []float64     `json:"mean"`
	Spread       []float64     `json:"spread"`
	Sequence     []float64     `json:"held_out_sequences"`
	Distribution []float64     `json:"held_out_distributions"`
}

// modelVersion is the version of the file.
const modelVersion = 1

// Write writes the model as JSON.
func (m *TrafficModel) Write(w io.Writer) error {
	s := m.sessions
	f := modelFile{
		Version: modelVersion, Method: m.Method, Trained: m.Trained, Features: FeatureNames, Scale: m.flows.scale, Points: m.flows.points, Labels: m.flows.labels, Units: m.flows.unit,
		Held: m.held, Length: m.Length, Sizes: s.sizes[:], Mean: s.mean, Spread: s.spread, Sequence: s.sequence, Distribution: s.distribution,
	}
	for n := range longest + 1 {
		f.First, f.Pairs = append(f.First, s.first[n]), append(f.Pairs, s.pairs[n])
	}
	return json.NewEncoder(w).Encode(f)
}

// maxModel bounds a model's file, in bytes.
const maxModel = 1 << 30

// ReadModel reads what Write wrote.
func ReadModel(r io.Reader) (*TrafficModel, error) {
	var f modelFile
	if err := json.NewDecoder(io.LimitReader(r, maxModel)).Decode(&f); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if f.Version != modelVersion {
		return nil, fmt.Errorf("model: version %d, and this program reads version %d; train again", f.Version, modelVersion)
	}
	if err := f.checkParts(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	groups := len(f.Units)
	m := &TrafficModel{held: f.Held, Length: f.Length, Method: f.Method, Trained: f.Trained}
	m.flows = &FlowModel{scale: f.Scale, points: f.Points, labels: f.Labels, unit: f.Units, groups: groups, tree: cluster.NewTree(f.Points)}
	m.sessions = &SessionModel{labels: groups, first: map[int][]float64{}, pairs: map[int][]float64{}, mean: f.Mean, spread: f.Spread, sequence: f.Sequence, distribution: f.Distribution}
	copy(m.sessions.sizes[:], f.Sizes)
	for n := range f.First {
		if f.First[n] != nil {
			m.sessions.first[n], m.sessions.pairs[n] = f.First[n], f.Pairs[n]
		}
	}
	return m, nil
}

// checkParts refuses a file whose parts do not fit together.
func (f *modelFile) checkParts() error {
	groups, columns := len(f.Units), len(FeatureNames)
	switch {
	case !slices.Equal(f.Features, FeatureNames):
		return errors.New("it was made with other features; train again")
	case groups == 0 || len(f.Points) == 0 || len(f.Points) != len(f.Labels) || len(f.Held) == 0 || f.Length <= 0:
		return errors.New("it is empty, or a part is missing")
	case len(f.Scale.Mean) != columns || len(f.Scale.Deviation) != columns || len(f.Mean) != groups || len(f.Spread) != groups:
		return errors.New("its columns do not fit together")
	case len(f.Sizes) != longest+1 || len(f.First) != longest+1 || len(f.Pairs) != longest+1 || len(f.Sequence) == 0 || len(f.Distribution) == 0:
		return errors.New("its counts of sessions do not fit together")
	}
	for i, p := range f.Points {
		if len(p) != columns || f.Labels[i] < 0 || f.Labels[i] >= groups {
			return fmt.Errorf("point %d is not possible", i)
		}
	}
	for n := range f.First {
		if f.First[n] != nil && (len(f.First[n]) != groups || len(f.Pairs[n]) != groups*groups) {
			return fmt.Errorf("sessions of length %d are not possible", n)
		}
	}
	for _, v := range slices.Concat(f.Units, f.Scale.Deviation, f.Spread) {
		if !(v > 0) || math.IsInf(v, 0) {
			return errors.New("a scale is not positive")
		}
	}
	return nil
}
