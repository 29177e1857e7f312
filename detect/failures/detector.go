package failures

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// Detector finds scanners. It takes flows in any order and is not safe for
// concurrent use.
type Detector struct {
	c      Configuration
	groups map[group]*tally
	spare  []tally // new tallies are taken from it, to allocate in batches
	// Forgotten counts groups dropped because the table was full: if not 0, a
	// slow scanner may be missed.
	Forgotten uint64
}

// group is a source with a port it tries everywhere, or a host whose ports it
// tries. It has no pointers and no padding, so that a map hashes it at once and
// the garbage collector does not scan it.
type group struct {
	source addrKey
	victim addrKey // zero for a group by port
	window int64
	port   uint32
	proto  uint32
}

// addrKey is a netip.Addr in its 128 bits, IPv4 in the mapped form.
type addrKey [2]uint64

func addressOf(a netip.Addr) addrKey {
	b := a.As16()
	return addrKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a addrKey) toAddr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a[0])
	binary.BigEndian.PutUint64(b[8:], a[1])
	return netip.AddrFrom16(b).Unmap()
}

// byPort reports whether g is a source with a port.
func (g *group) byPort() bool { return g.victim == addrKey{} }

// tally holds the counts of a group.
type tally struct {
	refused, silent, reached targets
	first, last              flow.Time
	sample                   []dossier.FlowEvidence
}

// samples is the number of flows kept as evidence.
const samples = 5

// New makes a detector; c must be valid.
func New(c Configuration) *Detector { return &Detector{c: c, groups: map[group]*tally{}} }

// Add counts flows.
func (d *Detector) Add(flows []flow.Flow) {
	for i := range flows {
		f := &flows[i]
		if s := SignalOf(f); s != Nothing && !flow.Within(d.c.Exempt, f.Orig) {
			d.countFlow(f, s)
		}
	}
}

func (d *Detector) countFlow(f *flow.Flow, s FlowSignal) {
	g := group{source: addressOf(f.Orig), window: int64(f.Start) / int64(d.c.Window), port: uint32(f.RespPort), proto: uint32(f.Proto)}
	d.tallyOf(g).addTarget(f, s, hostTarget(f.Resp))
	g.port, g.victim = 0, addressOf(f.Resp)
	d.tallyOf(g).addTarget(f, s, uint32(f.RespPort))
}

func (d *Detector) tallyOf(g group) *tally {
	t := d.groups[g]
	if t == nil {
		if len(d.groups) >= d.c.Groups {
			d.dropSmallest()
		}
		if len(d.spare) == 0 {
			d.spare = make([]tally, 64)
		}
		t, d.spare = &d.spare[0], d.spare[1:]
		d.groups[g] = t
	}
	return t
}

// dropSmallest drops the groups with the fewest failures until half are left.
func (d *Detector) dropSmallest() {
	for least := 1; len(d.groups) > d.c.Groups/2; least *= 2 {
		for g, t := range d.groups {
			if t.refused.n+t.silent.n < least {
				delete(d.groups, g)
				d.Forgotten++
			}
		}
	}
}

// Expire drops the windows that ended by t: a long-running detector must not
// fill up with past days.
func (d *Detector) Expire(t flow.Time) {
	for g := range d.groups {
		if flow.Time(g.window+1)*flow.Time(d.c.Window) <= t {
			delete(d.groups, g)
		}
	}
}

func (t *tally) addTarget(f *flow.Flow, s FlowSignal, target uint32) {
	if t.first == 0 || f.Start < t.first {
		t.first = f.Start
	}
	t.last = max(t.last, f.Start)
	switch s {
	case Success:
		t.reached.addTarget(target)
		return
	case Silence:
		t.silent.addTarget(target)
	case Refusal:
		t.refused.addTarget(target)
	}
	// Most groups never exceed one target, and need no evidence.
	if len(t.sample) < samples && t.refused.n+t.silent.n > 1 {
		t.sample = append(t.sample, dossier.FlowEvidenceOf(f))
	}
}

// Findings lists the scanners among the flows added, in order of time: one
// finding per source, kind, and port or victim, of the first window that has
// it.
func (d *Detector) Findings() []dossier.Finding {
	found := map[group]dossier.Finding{}
	for g, t := range d.groups {
		f, ok := d.judgeGroup(g, t)
		if !ok {
			continue
		}
		key := g
		key.window = 0
		if old, seen := found[key]; !seen || f.First < old.First {
			found[key] = f
		}
	}
	all := make([]dossier.Finding, 0, len(found))
	for _, f := range found {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b dossier.Finding) int {
		return cmp.Or(cmp.Compare(a.First, b.First), a.Host.Compare(b.Host), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (d *Detector) judgeGroup(g group, t *tally) (dossier.Finding, bool) {
	refused, failed := t.refused.n, t.refused.n+t.silent.n
	if failed < min(d.c.Remote, d.c.Local) {
		return dossier.Finding{}, false
	}
	need, source := d.c.Remote, g.source.toAddr()
	if flow.Within(d.c.Networks, source) {
		need = d.c.Local
	}
	if refused < need && failed < need*d.c.Silence {
		return dossier.Finding{}, false
	}
	share := float64(failed) / float64(failed+t.reached.n)
	if share < d.c.Share {
		return dossier.Finding{}, false
	}
	f := dossier.Finding{
		Detector: "failures", Kind: "address-scan", Host: flow.HostAt(source, d.c.Observer), First: t.first, Last: t.last,
		Evidence: dossier.Evidence{
			Counts:     map[string]uint64{"refused": uint64(refused), "silent": uint64(t.silent.n), "reached": uint64(t.reached.n)},
			Thresholds: map[string]float64{"refused": float64(need), "failed": float64(need * d.c.Silence), "share": d.c.Share},
			Flows:      t.sample,
		},
	}
	slices.SortFunc(f.Evidence.Flows, func(a, b dossier.FlowEvidence) int { return cmp.Compare(a.Time, b.Time) })
	span := time.Duration(t.last - t.first).Round(time.Second)
	what, about := "hosts on "+flow.Proto(g.proto).String()+" port", fmt.Sprint(g.port)
	if !g.byPort() {
		f.Kind, what, about = "port-scan", "ports of", g.victim.toAddr().String()
	}
	f.Summary = fmt.Sprintf("%s was refused by %d and met silence at %d %s %s within %s (%.0f %% of what it tried there)", f.Host, refused, t.silent.n, what, about, span, 100*share)
	f.Identify(about + " " + flow.Proto(g.proto).String())
	return f, true
}
