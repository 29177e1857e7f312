// Package merge puts the reports of many organisations together: hosts by
// pattern, patterns into groups by the hosts they share. It has no clock and
// keeps nothing: the same live reports give the same groups.
//
// Each independence class counts once. A host is agreed on in a pattern once Floor
// classes reported it there; only standing hosts are published, and only they
// make two patterns one group. So fewer than Floor organisations together can
// neither list a host nor weld two groups.
package merge

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/flow"
)

// Rules say when a host is agreed on and when patterns belong together.
type Rules struct {
	// Floor is how many independent classes must report a host under one
	// pattern.
	Floor int
	// Witnesses is how many independent witnesses must have named it to one of
	// them.
	Witnesses int
	// Shared standing hosts, at least, and Overlap of the smaller of two
	// patterns (0..1) make them one group.
	Shared  int
	Overlap float64
}

// Sighting is one live report as the merger sees it.
type Sighting struct {
	// Pattern counts the patterns in the order in which they became known.
	Pattern int
	Class   string
	Report  *dossier.Report
}

// AgreedHost is a host of a group, before masking.
type AgreedHost struct {
	Addr netip.Addr
	// Sources counts the classes that reported it under patterns in which it
	// stands, Witnesses the most that one of them could name.
	Sources, Witnesses int
	First, Last        flow.Time
	// Until is when it stops standing unless it is reported again.
	Until flow.Time
}

// PatternGroup is a set of patterns with the hosts that stand in them.
type PatternGroup struct {
	// Patterns are in ascending order.
	Patterns []int
	// Hosts are in order of their addresses.
	Hosts []AgreedHost
}

// Merger gathers reports. Memory grows with the hosts in them, about 150 bytes
// for each host, pattern and class.
type Merger struct {
	rules    Rules
	classes  map[string]int32
	patterns map[int]map[netip.Addr]*tally
}

// tally is one host under one pattern.
type tally struct {
	classes     []sighting // one per class
	witnesses   int
	first, last flow.Time
}

type sighting struct {
	class int32
	until flow.Time
}

// New returns an empty merger.
func New(rules Rules) *Merger {
	return &Merger{rules: rules, classes: map[string]int32{}, patterns: map[int]map[netip.Addr]*tally{}}
}

// Add takes a report, which it does not keep.
func (m *Merger) Add(v Sighting) {
	class, ok := m.classes[v.Class]
	if !ok {
		class = int32(len(m.classes))
		m.classes[v.Class] = class
	}
	hosts := m.patterns[v.Pattern]
	if hosts == nil {
		hosts = map[netip.Addr]*tally{}
		m.patterns[v.Pattern] = hosts
	}
	for _, h := range v.Report.Hosts {
		t := hosts[h.Addr]
		if t == nil {
			t = &tally{first: h.First, last: h.Last}
			hosts[h.Addr] = t
		}
		t.addClass(class, v.Report.Until)
		t.witnesses = max(t.witnesses, int(h.Witnesses))
		t.first, t.last = min(t.first, h.First), max(t.last, h.Last)
	}
}

func (t *tally) addClass(class int32, until flow.Time) {
	for i := range t.classes {
		if t.classes[i].class == class {
			t.classes[i].until = max(t.classes[i].until, until)
			return
		}
	}
	t.classes = append(t.classes, sighting{class, until})
}

// isAgreed reports whether enough classes and witnesses confirm the host.
func (r *Rules) isAgreed(t *tally) bool {
	return len(t.classes) >= r.Floor && t.witnesses >= r.Witnesses
}

// agreedUntil is the time at which fewer than Floor classes are left.
func (r *Rules) agreedUntil(t *tally) flow.Time {
	ends := make([]flow.Time, len(t.classes))
	for i, v := range t.classes {
		ends[i] = v.until
	}
	slices.SortFunc(ends, func(a, b flow.Time) int { return cmp.Compare(b, a) })
	return ends[max(r.Floor, 1)-1]
}

// Groups merges what was added. Groups are in the order of their oldest
// pattern; patterns without an agreed host are left out.
func (m *Merger) Groups() []PatternGroup {
	standing := map[int]map[netip.Addr]*tally{}
	for p, hosts := range m.patterns {
		for addr, t := range hosts {
			if !m.rules.isAgreed(t) {
				continue
			}
			if standing[p] == nil {
				standing[p] = map[netip.Addr]*tally{}
			}
			standing[p][addr] = t
		}
	}
	roots := m.rules.linkPatterns(standing)
	members := map[int][]int{}
	for _, p := range slices.Sorted(maps.Keys(standing)) {
		root := roots.find(p)
		members[root] = append(members[root], p)
	}
	var out []PatternGroup
	for _, patterns := range members {
		out = append(out, PatternGroup{patterns, m.rules.mergeHosts(patterns, standing)})
	}
	slices.SortFunc(out, func(a, b PatternGroup) int { return cmp.Compare(a.Patterns[0], b.Patterns[0]) })
	return out
}

// mergeHosts unites the hosts of a group's patterns.
func (r *Rules) mergeHosts(patterns []int, standing map[int]map[netip.Addr]*tally) []AgreedHost {
	all := map[netip.Addr]*AgreedHost{}
	classes := map[netip.Addr]map[int32]bool{}
	for _, p := range patterns {
		for addr, t := range standing[p] {
			h := all[addr]
			if h == nil {
				h = &AgreedHost{Addr: addr, First: t.first, Last: t.last}
				all[addr], classes[addr] = h, map[int32]bool{}
			}
			for _, v := range t.classes {
				classes[addr][v.class] = true
			}
			h.Sources, h.Witnesses = len(classes[addr]), max(h.Witnesses, t.witnesses)
			h.First, h.Last, h.Until = min(h.First, t.first), max(h.Last, t.last), max(h.Until, r.agreedUntil(t))
		}
	}
	out := make([]AgreedHost, 0, len(all))
	for _, h := range all {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b AgreedHost) int { return a.Addr.Compare(b.Addr) })
	return out
}
