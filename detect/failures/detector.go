package failures

import (
	"encoding/binary"
	"net/netip"
	"slices"

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

// group is a source, alone or with a host whose ports it tries. It has no pointers and no padding, so that a map hashes
// it at once and the garbage collector does not scan it.
type group struct {
	source addrKey
	victim addrKey // zero for all that a source tried
	slice  int64   // number of the quarter of a window
	proto  uint64
}

// sliceCount is the number of parts of a window by which it slides.
const sliceCount = 4

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

// isSource reports whether g is all that a source tried.
func (g *group) isSource() bool { return g.victim == addrKey{} }

// tally holds the counts of a group in a slice.
type tally struct {
	refused, silent, reached targets
	contacts                 contacts // in place of the others, of a source
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
	if len(d.c.Ports) > 0 && !slices.Contains(d.c.Ports, f.RespPort) {
		return
	}
	g := group{source: addressOf(f.Orig), slice: floorDivide(int64(f.Start), d.sliceLength())}
	d.tallyOf(g).addContact(f, s)
	g.victim, g.proto = addressOf(f.Resp), uint64(f.Proto)
	d.tallyOf(g).addTarget(f, s, uint32(f.RespPort))
}

func (d *Detector) sliceLength() int64 { return max(1, int64(d.c.Window)/sliceCount) }

func floorDivide(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
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
			if t.failures() < least {
				delete(d.groups, g)
				d.Forgotten++
			}
		}
	}
}

// Expire drops the parts of windows that ended by t: a long-running detector must not
// fill up with past days.
func (d *Detector) Expire(t flow.Time) {
	for g := range d.groups {
		if (g.slice+1)*d.sliceLength() <= int64(t) {
			delete(d.groups, g)
		}
	}
}

// failures is at least the number of targets that failed.
func (t *tally) failures() int { return t.refused.n + t.silent.n + len(t.contacts.services) }

func (t *tally) addContact(f *flow.Flow, s FlowSignal) {
	t.see(f)
	t.contacts.add(f, s)
	if s != Success && len(t.contacts.services) > 1 {
		t.keepSample(f)
	}
}

func (t *tally) addTarget(f *flow.Flow, s FlowSignal, target uint32) {
	t.see(f)
	switch s {
	case Success:
		t.reached.addTarget(target)
		return
	case Silence:
		t.silent.addTarget(target)
	case Refusal, Probe:
		t.refused.addTarget(target)
	}
	// Most groups never exceed one target, and need no evidence.
	if t.refused.n+t.silent.n > 1 {
		t.keepSample(f)
	}
}

func (t *tally) see(f *flow.Flow) {
	if t.first == 0 || f.Start < t.first {
		t.first = f.Start
	}
	t.last = max(t.last, f.Start)
}

func (t *tally) keepSample(f *flow.Flow) {
	if len(t.sample) < samples {
		t.sample = append(t.sample, dossier.FlowEvidenceOf(f))
	}
}

// merge adds the counts of another slice.
func (t *tally) merge(u *tally) {
	t.refused.merge(&u.refused)
	t.silent.merge(&u.silent)
	t.reached.merge(&u.reached)
	if len(u.contacts.services) > 0 {
		t.contacts.merge(&u.contacts)
	}
	if t.first == 0 || u.first < t.first {
		t.first = u.first
	}
	t.last = max(t.last, u.last)
	t.sample = append(t.sample, u.sample[:min(len(u.sample), samples-len(t.sample))]...)
}
