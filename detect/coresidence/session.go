package coresidence

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sort"
	"time"

	"dragnet/flow"
)

// Session is the flows of one source, destination and destination port that
// start in one interval (section 3.2), in order of time.
type Session struct {
	Source, Destination netip.Addr
	Port                uint16
	// Flows are indices into what Sessions was given.
	Flows []int
}

// Sessions groups flows, in order of time and addresses.
func Sessions(flows []flow.Flow, interval time.Duration) []Session {
	type key struct {
		at                  int64
		source, destination netip.Addr
		port                uint16
	}
	order := make([]int, len(flows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(flows[a].Start, flows[b].Start) })
	known := map[key]int{}
	var all []Session
	for _, i := range order {
		f := &flows[i]
		k := key{int64(f.Start) / int64(interval), f.Orig, f.Resp, f.RespPort}
		at, ok := known[k]
		if !ok {
			at = len(all)
			known[k] = at
			all = append(all, Session{Source: f.Orig, Destination: f.Resp, Port: f.RespPort})
		}
		all[at].Flows = append(all[at].Flows, i)
	}
	return all
}

// longest is the length from which on sessions share their counts: each length
// alone would be seen too rarely.
const longest = 32

// SessionModel knows the sequences of labels in legitimate sessions.
type SessionModel struct {
	labels int
	sizes  [longest + 1]float64 // sessions of each length
	first  map[int][]float64    // by length: n(c1, N)
	pairs  map[int][]float64    // by length: n(c(i-1), ci, N), row by row
	mean   []float64            // flows of each label in a session
	spread []float64

	sequence, distribution []float64 // scores of held-out sessions, ascending
}

// TrainSessions counts in two thirds of sequences, and keeps the scores of every
// third one, which it did not count, so that a p-value holds for sessions like
// them.
func TrainSessions(sequences [][]int, labels int) (*SessionModel, error) {
	if labels < 1 || len(sequences) < 30 {
		return nil, fmt.Errorf("train on %d sessions of %d labels: at least 30 sessions and one label are needed", len(sequences), labels)
	}
	m := &SessionModel{labels: labels, first: map[int][]float64{}, pairs: map[int][]float64{}, mean: make([]float64, labels), spread: make([]float64, labels)}
	n := 0.0
	for k, s := range sequences {
		if err := m.checkLabels(s); err != nil {
			return nil, fmt.Errorf("session %d: %w", k, err)
		}
		if k%3 == 2 {
			continue
		}
		n++
		m.countTransitions(s)
	}
	for c := range labels {
		m.mean[c] /= n
		m.spread[c] = math.Sqrt(max(m.spread[c]/n-m.mean[c]*m.mean[c], 1/n))
	}
	for k, s := range sequences {
		if k%3 == 2 {
			m.sequence = append(m.sequence, m.sessionSurprise(s))
			m.distribution = append(m.distribution, m.labelConcentration(s))
		}
	}
	slices.Sort(m.sequence)
	slices.Sort(m.distribution)
	return m, nil
}

func (m *SessionModel) checkLabels(s []int) error {
	if len(s) == 0 {
		return fmt.Errorf("it has no flows")
	}
	for _, c := range s {
		if c < 0 || c >= m.labels {
			return fmt.Errorf("label %d is not below %d", c, m.labels)
		}
	}
	return nil
}

// countTransitions adds s under its length, and under 0, which means any length.
func (m *SessionModel) countTransitions(s []int) {
	m.sizes[min(len(s), longest)]++
	for _, n := range []int{min(len(s), longest), 0} {
		if m.first[n] == nil {
			m.first[n], m.pairs[n] = make([]float64, m.labels), make([]float64, m.labels*m.labels)
		}
		m.first[n][s[0]]++
		for i := 1; i < len(s); i++ {
			m.pairs[n][s[i-1]*m.labels+s[i]]++
		}
	}
	for c, n := range countLabels(s, m.labels) {
		m.mean[c] += n
		m.spread[c] += n * n
	}
}

func countLabels(s []int, labels int) []float64 {
	counts := make([]float64, labels)
	for _, c := range s {
		counts[c]++
	}
	return counts
}

// prior is the weight, in observations, of what is known of the next coarser
// kind: of any length for one length, and of equal chances for any length.
const prior = 1.0

// LogProbability is the logarithm of equation 2 for s, smoothed: the counts of
// sessions as long as s are mixed with those of all, and these with equal
// chances, so that nothing is impossible.
func (m *SessionModel) LogProbability(s []int) float64 {
	n := min(len(s), longest)
	p := math.Log(m.smoothedShare(m.first[n], m.first[0], s[0]))
	for i := 1; i < len(s); i++ {
		row := func(counts []float64) []float64 {
			if counts == nil {
				return nil
			}
			return counts[s[i-1]*m.labels : (s[i-1]+1)*m.labels]
		}
		p += math.Log(m.smoothedShare(row(m.pairs[n]), row(m.pairs[0]), s[i]))
	}
	return p
}

// smoothedShare returns the smoothed part that label c has of counts; all are those of any
// length.
func (m *SessionModel) smoothedShare(counts, all []float64, c int) float64 {
	p := 1 / float64(m.labels)
	for _, row := range [][]float64{all, counts} {
		total, n := 0.0, 0.0
		for k, v := range row {
			total += v
			if k == c {
				n = v
			}
		}
		p = (n + prior*p) / (total + prior)
	}
	return p
}

// sessionSurprise returns how improbable a session is, per flow, and how rare its length.
func (m *SessionModel) sessionSurprise(s []int) float64 {
	total := 0.0
	for _, n := range m.sizes {
		total += n
	}
	length := (m.sizes[min(len(s), longest)] + prior/longest) / (total + prior)
	return -m.LogProbability(s)/float64(len(s)) - math.Log(length)
}

// labelConcentration returns by how many standard deviations the label that is most in
// excess is above its mean: the attacker needs many flows of one kind.
func (m *SessionModel) labelConcentration(s []int) float64 {
	most := math.Inf(-1)
	for c, n := range countLabels(s, m.labels) {
		most = max(most, (n-m.mean[c])/m.spread[c])
	}
	return most
}

// Judge gives the p-values of a session by its sequence and by its distribution
// of labels: the shares of legitimate sessions, held out in training, that are at
// least as odd (conformal; Vovk, Gammerman and Shafer 2005). A session with a
// label that was never trained is refused.
func (m *SessionModel) Judge(s []int) (sequence, distribution float64, err error) {
	if err := m.checkLabels(s); err != nil {
		return 0, 0, err
	}
	return rankOf(m.sequence, m.sessionSurprise(s)), rankOf(m.distribution, m.labelConcentration(s)), nil
}

// Scores are what the p-values of Judge are made of; larger is odder.
func (m *SessionModel) Scores(s []int) (sequence, distribution float64, err error) {
	if err := m.checkLabels(s); err != nil {
		return 0, 0, err
	}
	return m.sessionSurprise(s), m.labelConcentration(s), nil
}

// rankOf is the share of scores, with the new one among them, that are at least
// score.
func rankOf(scores []float64, score float64) float64 {
	below := sort.SearchFloat64s(scores, score)
	return float64(len(scores)-below+1) / float64(len(scores)+1)
}
