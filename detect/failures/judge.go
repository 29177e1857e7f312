package failures

import (
	"cmp"
	"fmt"
	"maps"
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
	var all []dossier.Finding
	for g, at := range d.findCandidates() {
		all = append(all, d.judgeSlices(g, at)...)
	}
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

// Slice returns the length of a slice, and how many failed targets of a group one
// of the slices of a span must have for the group to be judged.
func (c *Configuration) Slice() (span time.Duration, least int) {
	return max(1, c.Window/sliceCount), (min(c.Remote, c.Local) + slicesOfWindow - 1) / slicesOfWindow
}

// slicesOfWindow is how many slices a span of one window may touch.
const slicesOfWindow = sliceCount + 1

// judgeSlices judges a group over every window, and each window after every
// slice: who scans the same hosts every day does not try them again that day.
func (d *Detector) judgeSlices(g group, at []int64) []dossier.Finding {
	least := min(d.c.Remote, d.c.Local)
	ports := map[string]dossier.Finding{}
	for i, from := range at {
		w, bound := window{group: g}, 0
		for _, s := range at[i:] {
			if s >= from+slicesOfWindow {
				break
			}
			g.slice = s
			w.merge(d.groups[g])
			if t := d.groups[group{source: g.source, slice: s}]; t != nil {
				w.handshakes += t.contacts.handshakes
			}
			if bound += d.groups[g].failures(); bound < least {
				continue
			}
			if f, ok := d.judgeWindow(&w); ok {
				return []dossier.Finding{f}
			}
			for _, f := range d.judgePorts(&w) {
				if _, ok := ports[f.Evidence.Service]; !ok {
					ports[f.Evidence.Service] = f
				}
			}
		}
	}
	return slices.Collect(maps.Values(ports))
}

// window is the counts of a group in a span of one window.
type window struct {
	tally
	group      group
	handshakes int
}

// judgeWindow judges a source by all it tried, or by the ports of one host.
func (d *Detector) judgeWindow(w *window) (dossier.Finding, bool) {
	if w.group.isSource() {
		s := w.contacts.byHost()
		if s.failed() < d.c.Remote || !d.scans(&s) {
			return dossier.Finding{}, false
		}
		f := d.describe(w, "address-scan", d.evidenceOf(&s, d.c.Remote), s.describe("hosts"))
		f.Identify("all ports" + marks(&f))
		return f, true
	}
	return d.judgeTargets(w)
}

// judgePorts judges a source by the hosts on each port it tried: what hides
// among the successes of others behind the same address.
func (d *Detector) judgePorts(w *window) []dossier.Finding {
	var all []dossier.Finding
	if !w.group.isSource() {
		return nil
	}
	for at, s := range w.contacts.byPort() {
		need := d.needOf(w)
		if s.failed() < need || !d.scans(s) {
			continue
		}
		name := fmt.Sprintf("%s port %d", at.proto, at.port)
		f := d.describe(w, "address-scan", d.evidenceOf(s, need), s.describe("hosts on "+name))
		f.Evidence.Service = name
		f.Identify(fmt.Sprint(at.port, " ", at.proto) + marks(&f))
		all = append(all, f)
	}
	return all
}

// needOf is the number of failed targets of one group that is judged.
func (d *Detector) needOf(w *window) int {
	if flow.Within(d.c.Networks, w.group.source.toAddr()) {
		return d.c.Local
	}
	return d.c.Remote
}

func (d *Detector) scans(s *sums) bool {
	return s.score() >= math.Log(1/d.c.Alpha)
}

func (d *Detector) evidenceOf(s *sums, need int) dossier.Evidence {
	return dossier.Evidence{
		Counts: map[string]uint64{
			"refused": uint64(s.refused), "silent": uint64(s.silent), "probed": uint64(s.probed), "reached": uint64(s.answered), "returned": uint64(s.returned), "again": uint64(s.again),
		},
		Thresholds: map[string]float64{"failed": float64(need), "score": math.Log(1 / d.c.Alpha), "alpha": d.c.Alpha},
	}
}

// describe says what was counted; where is "hosts", of some port.
func (s *sums) describe(where string) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{s.refused, "was refused by"}, {s.silent, "met silence at"}, {s.probed, "opened no connection when it probed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.what, p.n))
		}
	}
	return fmt.Sprintf("%s %s; %d others answered, and it tried %d of the failed ones again (score %.0f)",
		strings.Join(parts, " and "), where, s.answered, s.again, s.score())
}

// describe makes a finding that still needs its identity.
func (d *Detector) describe(w *window, kind string, e dossier.Evidence, what string) dossier.Finding {
	source := w.group.source.toAddr()
	f := dossier.Finding{
		Detector: "failures", Kind: kind, Host: flow.HostAt(source, d.c.Observer), First: w.first, Last: w.last, Evidence: e,
		Unverified: w.handshakes == 0 && !(d.c.Validated && flow.Within(d.c.Networks, source)),
	}
	f.Evidence.Counts["handshakes"] = uint64(w.handshakes)
	f.Evidence.Flows = slices.Clone(w.sample)
	slices.SortFunc(f.Evidence.Flows, func(a, b dossier.FlowEvidence) int { return cmp.Compare(a.Time, b.Time) })
	f.Summary = fmt.Sprintf("%s %s within %s", f.Host, what, time.Duration(w.last-w.first).Round(time.Second))
	if f.Unverified {
		f.Summary += "; it completed no handshake, so that its address may be forged"
	}
	return f
}

// marks keeps a finding apart from the one that it becomes once its source is
// verified.
func marks(f *dossier.Finding) string {
	if f.Unverified {
		return " unverified"
	}
	return ""
}

// judgeTargets judges a source by the ports of one host.
func (d *Detector) judgeTargets(w *window) (f dossier.Finding, ok bool) {
	refused, failed, need := w.refused.n, w.refused.n+w.silent.n, d.needOf(w)
	if refused < need && failed < need*d.c.Silence {
		return f, false
	}
	share := float64(failed) / float64(failed+w.reached.n)
	if share < d.c.Share {
		return f, false
	}
	victim := w.group.victim.toAddr().String()
	f = d.describe(w, "port-scan", dossier.Evidence{
		Counts:     map[string]uint64{"refused": uint64(refused), "silent": uint64(w.silent.n), "reached": uint64(w.reached.n)},
		Thresholds: map[string]float64{"refused": float64(need), "failed": float64(need * d.c.Silence), "share": d.c.Share},
	}, fmt.Sprintf("was refused by %d and met silence at %d ports of %s (%.0f %% of what it tried there)", refused, w.silent.n, victim, 100*share))
	f.Identify(victim + " " + flow.Proto(w.group.proto).String() + marks(&f))
	return f, true
}
