package failures

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// Findings lists the scanners among the flows added, in order of time: one
// finding per source, kind, and port or victim, of the first window that has
// it. A source that is found by all it tried is not listed by port as well.
func (d *Detector) Findings() []dossier.Finding {
	candidates := d.findCandidates()
	var all []dossier.Finding
	found := map[addrKey]bool{}
	judge := func(want func(*group) bool) {
		for g, at := range candidates {
			if !want(&g) {
				continue
			}
			if f, ok := d.judgeSlices(g, at); ok {
				found[g.source] = found[g.source] || g.isSource()
				all = append(all, f)
			}
		}
	}
	judge(func(g *group) bool { return g.isSource() })
	judge(func(g *group) bool { return !g.isSource() && !(g.byPort() && found[g.source]) })
	slices.SortFunc(all, func(a, b dossier.Finding) int {
		return cmp.Or(cmp.Compare(a.First, b.First), a.Host.Compare(b.Host), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// findCandidates lists the slices of each group that may fail often enough.
func (d *Detector) findCandidates() map[group][]int64 {
	least := min(d.c.Remote, d.c.Local)
	// In a span that has enough, one of its slices has its share.
	busy := map[group]bool{}
	for g, t := range d.groups {
		if slicesOfWindow*t.failures() >= least {
			g.slice = 0
			busy[g] = true
		}
	}
	all := map[group][]int64{}
	for g := range d.groups {
		at := g.slice
		g.slice = 0
		if busy[g] {
			all[g] = append(all[g], at)
		}
	}
	for _, at := range all {
		slices.Sort(at)
	}
	return all
}

// slicesOfWindow is how many slices a span of one window may touch.
const slicesOfWindow = sliceCount + 1

// judgeSlices judges a group over every window.
func (d *Detector) judgeSlices(g group, at []int64) (dossier.Finding, bool) {
	least := min(d.c.Remote, d.c.Local)
	for i, from := range at {
		bound, end := 0, i
		for ; end < len(at) && at[end] < from+slicesOfWindow; end++ {
			g.slice = at[end]
			bound += d.groups[g].failures()
		}
		if bound < least {
			continue
		}
		var sum tally
		handshakes := 0
		for _, s := range at[i:end] {
			g.slice = s
			sum.merge(d.groups[g])
			if t := d.groups[group{source: g.source, slice: s}]; t != nil {
				handshakes += t.contacts.handshakes
			}
		}
		if f, ok := d.judgeGroup(g, &sum, handshakes); ok {
			return f, true
		}
	}
	return dossier.Finding{}, false
}

func (d *Detector) judgeGroup(g group, t *tally, handshakes int) (dossier.Finding, bool) {
	source := g.source.toAddr()
	ours := flow.Within(d.c.Networks, source)
	f := dossier.Finding{
		Detector: "failures", Kind: "address-scan", Host: flow.HostAt(source, d.c.Observer), First: t.first, Last: t.last,
		Unverified: handshakes == 0 && !(ours && d.c.Validated),
	}
	about, ok := "", false
	if g.isSource() {
		about, ok = d.judgeSource(&f, t)
	} else {
		about, ok = d.judgeTargets(&f, g, t, ours)
	}
	if !ok {
		return f, false
	}
	f.Evidence.Counts["handshakes"] = uint64(handshakes)
	f.Evidence.Flows = t.sample
	slices.SortFunc(f.Evidence.Flows, func(a, b dossier.FlowEvidence) int { return cmp.Compare(a.Time, b.Time) })
	if f.Unverified {
		f.Summary += "; it completed no handshake, so that its address may be forged"
		about += " unverified"
	}
	f.Identify(about)
	return f, true
}

// judgeSource judges a source by all the hosts it tried.
func (d *Detector) judgeSource(f *dossier.Finding, t *tally) (about string, ok bool) {
	s := t.contacts.sum()
	likelihood, bound := score(s.answered, s.once, s.again), math.Log(1/d.c.Alpha)
	if s.failed() < d.c.Remote || likelihood < bound {
		return "", false
	}
	f.Evidence = dossier.Evidence{
		Counts: map[string]uint64{
			"refused": uint64(s.refused), "silent": uint64(s.silent), "probed": uint64(s.probed), "reached": uint64(s.answered), "again": uint64(s.again),
		},
		Thresholds: map[string]float64{"failed": float64(d.c.Remote), "score": bound, "alpha": d.c.Alpha},
	}
	where := fmt.Sprintf("hosts, %d of them on port %d", s.onPort, s.port)
	if s.onPort == s.failed() {
		where = fmt.Sprintf("hosts on port %d", s.port)
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{s.refused, "was refused by"}, {s.silent, "met silence at"}, {s.probed, "probed without opening a connection"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.what, p.n))
		}
	}
	f.Summary = fmt.Sprintf("%s %s %s within %s; %d others answered, and it tried %d of the failed ones again (score %.0f of %.0f)",
		f.Host, strings.Join(parts, " and "), where, spanOf(t), s.answered, s.again, likelihood, bound)
	return "all ports", true
}

// judgeTargets judges a source by the hosts on one port, or the ports of one
// host.
func (d *Detector) judgeTargets(f *dossier.Finding, g group, t *tally, ours bool) (about string, ok bool) {
	refused, failed, need := t.refused.n, t.refused.n+t.silent.n, d.c.Remote
	if ours {
		need = d.c.Local
	}
	if refused < need && failed < need*d.c.Silence {
		return "", false
	}
	share := float64(failed) / float64(failed+t.reached.n)
	if share < d.c.Share {
		return "", false
	}
	f.Evidence = dossier.Evidence{
		Counts:     map[string]uint64{"refused": uint64(refused), "silent": uint64(t.silent.n), "reached": uint64(t.reached.n)},
		Thresholds: map[string]float64{"refused": float64(need), "failed": float64(need * d.c.Silence), "share": d.c.Share},
	}
	what, about := "hosts on "+flow.Proto(g.proto).String()+" port", fmt.Sprint(g.port)
	if !g.byPort() {
		f.Kind, what, about = "port-scan", "ports of", g.victim.toAddr().String()
	}
	f.Summary = fmt.Sprintf("%s was refused by %d and met silence at %d %s %s within %s (%.0f %% of what it tried there)",
		f.Host, refused, t.silent.n, what, about, spanOf(t), 100*share)
	return about + " " + flow.Proto(g.proto).String(), true
}

func spanOf(t *tally) time.Duration { return time.Duration(t.last - t.first).Round(time.Second) }
