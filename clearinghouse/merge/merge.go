// Package merge puts the reports of many organisations together: hosts by
// pattern, patterns into groups by the hosts they share. It has no clock and
// keeps nothing: the same live reports give the same groups.
//
// Each independence class counts once. A host is agreed on in a pattern once Floor
// classes reported it there; only standing hosts are published, and only they
// make two patterns one group. So fewer than Floor organisations together can
// neither list a host nor join two groups.
package merge

import (
	"cmp"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/flow"
)

// Thresholds say when a host is agreed on and when patterns belong together.
type Thresholds struct {
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

// LiveReport is one live report as the merger sees it.
type LiveReport struct {
	// Pattern counts the patterns in the order in which they became known.
	Pattern int
	Class   string
	Report  *dossier.Report
}

// AgreedHost is a host of a group, before masking.
type AgreedHost struct {
	Addr netip.Addr
	// Sources counts the classes that reported it under patterns in which it is
	// agreed on. Witnesses, First and Last are what Floor of them bear out: one
	// member alone can raise neither the number of witnesses nor the span.
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

// Merger gathers reports. Memory grows with the hosts that were added since the last
// Settle, about 180 bytes for each host, pattern and class, and with the hosts agreed
// on until then.
type Merger struct {
	rules    Thresholds
	seed     maphash.Seed
	classes  map[string]int32
	patterns map[int]map[netip.Addr]*tally
	standing map[int]map[netip.Addr]*tally
}

// HostShare is a share of all hosts: of Of shares of about the same size, that of number
// Index. Which hosts are in it cannot be predicted. The zero HostShare is all.
type HostShare struct{ Index, Of int }

// tally is one host under one pattern.
type tally struct{ classes []sighting } // one per class

// sighting is what one class says of a host.
type sighting struct {
	class              int32
	witnesses          int32
	until, first, last flow.Time
}

// New returns an empty merger.
func New(rules Thresholds) *Merger {
	return &Merger{rules: rules, seed: maphash.MakeSeed(), classes: map[string]int32{}, patterns: map[int]map[netip.Addr]*tally{}, standing: map[int]map[netip.Addr]*tally{}}
}

// Add takes a report, which it does not keep.
func (m *Merger) Add(v LiveReport) { m.AddPart(v, HostShare{}) }

// AddPart takes those hosts of a report that are in a share.
func (m *Merger) AddPart(v LiveReport, share HostShare) {
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
		if share.Of > 1 && maphash.Comparable(m.seed, h.Addr)%uint64(share.Of) != uint64(share.Index) {
			continue
		}
		t := hosts[h.Addr]
		if t == nil {
			t = &tally{}
			hosts[h.Addr] = t
		}
		t.addSighting(sighting{class, int32(h.Witnesses), v.Report.Until, h.First, h.Last})
	}
}

func (t *tally) addSighting(v sighting) {
	for i := range t.classes {
		if o := &t.classes[i]; o.class == v.class {
			o.witnesses, o.until = max(o.witnesses, v.witnesses), max(o.until, v.until)
			o.first, o.last = min(o.first, v.first), max(o.last, v.last)
			return
		}
	}
	t.classes = append(t.classes, v)
}

// isAgreed reports whether enough classes confirm the host, and enough witnesses
// named it to one of them.
func (r *Thresholds) isAgreed(t *tally) bool {
	return len(t.classes) >= r.Floor && slices.ContainsFunc(t.classes, func(v sighting) bool { return int(v.witnesses) >= r.Witnesses })
}

// bornOut is the number of witnesses and the span that Floor classes bear out: that
// number of them name at least as many witnesses, a start at least as early and an
// end at least as late.
func (r *Thresholds) bornOut(t *tally) (witnesses int, first, last flow.Time) {
	at := max(r.Floor, 1) - 1
	v := slices.Clone(t.classes)
	slices.SortFunc(v, func(a, b sighting) int { return cmp.Compare(b.witnesses, a.witnesses) })
	witnesses = int(v[at].witnesses)
	slices.SortFunc(v, func(a, b sighting) int { return cmp.Compare(a.first, b.first) })
	first = v[at].first
	slices.SortFunc(v, func(a, b sighting) int { return cmp.Compare(b.last, a.last) })
	last = v[at].last
	return witnesses, min(first, last), max(first, last) // disjoint spans: what lies between
}

// agreedUntil is the time at which fewer than Floor classes are left.
func (r *Thresholds) agreedUntil(t *tally) flow.Time {
	ends := make([]flow.Time, len(t.classes))
	for i, v := range t.classes {
		ends[i] = v.until
	}
	slices.SortFunc(ends, func(a, b flow.Time) int { return cmp.Compare(b, a) })
	return ends[max(r.Floor, 1)-1]
}

// Settle forgets the hosts that are not agreed on by what was added until now. All
// that concerns these hosts and patterns must have been added.
func (m *Merger) Settle() {
	for p, hosts := range m.patterns {
		for addr, t := range hosts {
			if !m.rules.isAgreed(t) {
				continue
			}
			if m.standing[p] == nil {
				m.standing[p] = map[netip.Addr]*tally{}
			}
			m.standing[p][addr] = t
		}
	}
	m.patterns = map[int]map[netip.Addr]*tally{}
}

// Groups merges what was added. Groups are in the order of their oldest
// pattern; patterns without an agreed host are left out.
func (m *Merger) Groups() []PatternGroup {
	m.Settle()
	standing := m.standing
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
func (r *Thresholds) mergeHosts(patterns []int, standing map[int]map[netip.Addr]*tally) []AgreedHost {
	all := map[netip.Addr]*AgreedHost{}
	classes := map[netip.Addr]map[int32]bool{}
	for _, p := range patterns {
		for addr, t := range standing[p] {
			witnesses, first, last := r.bornOut(t)
			h := all[addr]
			if h == nil {
				h = &AgreedHost{Addr: addr, First: first, Last: last}
				all[addr], classes[addr] = h, map[int32]bool{}
			}
			for _, v := range t.classes {
				classes[addr][v.class] = true
			}
			h.Sources, h.Witnesses = len(classes[addr]), max(h.Witnesses, witnesses)
			h.First, h.Last, h.Until = min(h.First, first), max(h.Last, last), max(h.Until, r.agreedUntil(t))
		}
	}
	out := make([]AgreedHost, 0, len(all))
	for _, h := range all {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b AgreedHost) int { return a.Addr.Compare(b.Addr) })
	return out
}
