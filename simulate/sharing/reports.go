package sharing

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"dragnet/clearinghouse/merge"
	"dragnet/dossier"
)

// Reporters is a community of detectives, some of whom send false reports to
// the clearinghouse.
type Reporters struct {
	// Detectives are separate organisations, of which the share Liars lies.
	Detectives int
	Liars      float64
	Colluding  bool
	// Group is the number of attackers, of which each honest detective has found
	// each with probability Found.
	Group int
	Found float64
	// Innocent and Framed are as in Configuration.
	Innocent, Framed int
	Seed             uint64
}

// DefaultReporters is a community of 20 detectives who find half of the group
// each.
func DefaultReporters() Reporters {
	return Reporters{Detectives: 20, Group: 30, Found: 0.5, Innocent: 100, Framed: 10, Seed: 1}
}

// Publish merges their reports with a floor of 1: the result has the number of
// sources of each host, for every floor.
func (c Reporters) Publish() (*Belief, error) {
	rng := rand.New(rand.NewPCG(c.Seed, 1))
	m := merge.New(merge.Thresholds{Floor: 1, Witnesses: 1, Shared: 1, Overlap: 1})
	as := Configuration{Innocent: c.Innocent, Framed: c.Framed}
	together := as.drawFramed(rng)
	liars := int(c.Liars*float64(c.Detectives) + 0.5)
	for i := range c.Detectives {
		r := &dossier.Report{Pattern: text, Made: 1, Until: 2, Asked: 1}
		for h := range c.Group {
			if rng.Float64() < c.Found {
				r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: attackerAddr(h), Witnesses: 1})
			}
		}
		if i < liars {
			innocents := together
			if !c.Colluding {
				innocents = as.drawFramed(rng)
			}
			for _, h := range innocents {
				r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: h, Witnesses: 1})
			}
		}
		slices.SortFunc(r.Hosts, func(a, b dossier.ReportedHost) int { return cmp.Or(a.Addr.Compare(b.Addr)) })
		if len(r.Hosts) == 0 {
			continue
		}
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("detective %d: %w", i, err)
		}
		m.Add(merge.LiveReport{Pattern: 1, Class: fmt.Sprint("org", i), Report: r})
	}
	out := &Belief{Group: c.Group}
	for _, g := range m.Groups() {
		for _, h := range g.Hosts {
			if isGuilty(h.Addr) {
				out.Guilty = append(out.Guilty, h.Sources)
			} else {
				out.Innocent = append(out.Innocent, h.Sources)
			}
		}
	}
	return out, nil
}
