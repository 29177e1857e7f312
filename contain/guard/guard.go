// Package guard is DAW's agent at one edge of an ISP (Tang 2006, section
// 2.3.3): it watches the packets between a customer network and the ISP, feeds
// them to the limits of package daw, and holds back or blocks sources at the
// router beside it.
//
// It does not decide whom to block. What it does on its own, it does under a
// standing Decision that says who allowed it, why, until when, and how many
// addresses at a time; without one it only counts. All else comes as Decisions
// from its station. The allow list takes precedence over both. While the
// station cannot be reached, a guard keeps its last policy and logs that.
//
// Guard is pure: time is an argument, packets and decisions are its input,
// holds and blocks its output. Role runs it on a live interface.
package guard

import (
	"net/netip"
	"slices"

	"dragnet/contain/guard/tc"
	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

// Guard is not safe for concurrent use.
type Guard struct {
	c     Configuration
	edge  *daw.Edge
	scope daw.Scope // as configured or set by the station, before exemptions
	next  flow.Time // when to look for persistent scanners again

	configured      dossier.Decision // the standing decision of the configuration; without ID: none
	standing        dossier.Decision // the one in force
	acting          bool             // on its own, and not in a dry run
	policyDecisions []dossier.Decision
	own             []dossier.Decision // blocks made here under the standing decision
	allow           []netip.Prefix     // the configured list, and the station's
	stationAllow    []netip.Prefix
	inForce         map[string]bool // IDs of the decisions behind the blocks of the edge
	persistent      []daw.Persistent
	largest         float64 // share of a network's limited sources to block
	stationed       bool    // a station judges proposals
	drops           uint64  // number of the next drop of a firewall

	slow bool // the station looks for a slow worm

	holds   map[netip.Prefix]*heldSource
	fresh   []nft.Hold              // not at the router yet
	routed  map[netip.AddrPort]bool // services that the router lets held sources reach
	touched map[netip.AddrPort]bool // whose state may differ from that
	warned  flow.Time               // when to say again that there is no room for holds
	release bool                    // the router must release all holds
	changed bool                    // decisions differ from those last given to the router

	inline    limiter     // what judges and counts instead of the edge; nil for the edge
	elsewhere []edgeReply // replies to requests that left by another edge
	leftOut   bool        // there were more

	event func(Action)
	stats Stats
}

// Stats count what a guard did since it started.
type Stats struct {
	// Packets were looked at.
	Packets uint64
	// Held counts how often a hold of a source started, Refused requests of
	// sources that were not held because the router holds as many as it may.
	Held, Refused uint64
	// Fragments were dropped because they hide the flags of a TCP segment.
	Fragments uint64
	// Shared replies came by another edge; Unshared ones that came here and may
	// belong to another were too many to be passed on.
	Shared, Unshared uint64
}

// New makes a guard whose time starts at now; event is called for each action,
// and may be nil. A snapshot, if not nil, is the state of an earlier guard.
func New(c Configuration, now flow.Time, snapshot []byte, event func(Action)) (*Guard, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Limits = c.Limits.Split(c.Edges.count())
	g := &Guard{
		c: c, scope: c.watchedScope(), next: now, allow: slices.Clone(c.Allow), inForce: map[string]bool{},
		holds: map[netip.Prefix]*heldSource{}, event: event, stationed: c.Station, changed: true,
	}
	if event == nil {
		g.event = func(Action) {}
	}
	var err error
	if snapshot != nil {
		g.edge, err = daw.Restore(c.Limits, g.exemptedScope(), now, snapshot)
	} else {
		g.edge, err = daw.New(c.Limits, g.exemptedScope(), now)
	}
	if err != nil {
		return nil, err
	}
	g.bindSources()
	if (c.Standing.Enforce || c.Station) && !c.Kernel.isUsed() {
		g.routed, g.touched = map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
		g.edge.OnService(func(s netip.AddrPort) { g.touched[s] = true })
	}
	if c.Standing.By != "" {
		g.configured = c.Standing.makeDecision(now)
		g.standing = g.configured
		g.event(Action{Time: now, What: "standing", Decision: g.standing.ID, Until: g.standing.Until, Why: g.standing.Why, Verdict: g.standing.Verdict})
	}
	return g, nil
}

// exemptedScope is the scope without the sources that must never be held or
// blocked.
func (g *Guard) exemptedScope() daw.Scope {
	s := g.scope
	s.Exempt = append(slices.Clone(s.Exempt), g.allow...)
	return s
}

// Edge gives access to the counters, for reports.
func (g *Guard) Edge() *daw.Edge { return g.edge }

// Stats returns the counts so far.
func (g *Guard) Stats() Stats { return g.stats }

// Packet counts a packet and reports whether it may pass. A forwarder can drop
// by it; a passive observer uses Plan. Requests come from inside and replies from
// outside: what a host sends to itself in another's name counts for nothing.
func (g *Guard) Packet(now flow.Time, p *packet.Packet, from Path) bool {
	g.stats.Packets++
	g.Tick(now)
	switch {
	case p.IsMapped():
	case p.Fragment && !from.Outside:
		return g.countFragment(p.HidesTCPFlags(), p.NetworkSrc())
	case !p.Decoded:
	case p.Proto == flow.TCP:
		return g.countSegment(now, p, from)
	case (p.Proto == flow.ICMP || p.Proto == flow.ICMPv6) && !from.Inside:
		g.countICMP(now, p, from)
	}
	return true
}

// Tick looks for persistent scanners when that is due, whether packets arrive
// or not.
func (g *Guard) Tick(now flow.Time) {
	if now >= g.next {
		g.next = now + flow.Time(g.c.Every)
		g.findPersistent(now)
	}
}

// Reconcile ends expired blocks and holds; call it at least once a second.
func (g *Guard) Reconcile(now flow.Time) { g.reconcileBlocks(now) }

func (g *Guard) countSegment(now flow.Time, p *packet.Packet, from Path) bool {
	flags := p.Flags & (flow.SYN | flow.ACK | flow.RST)
	switch {
	case flags == flow.SYN && !from.Outside:
		return g.judgeRequest(now, p, from)
	case from.Inside:
	case flags == flow.SYN|flow.ACK:
		g.countReply(now, edgeReply{tc.Success, *answeredConn(p)}, from)
	case flags == flow.RST|flow.ACK:
		// Only a RST that answers a SYN acknowledges it (RFC 9293, section
		// 3.5.2); one that aborts a connection has another number.
		g.countReply(now, edgeReply{tc.Reset, *answeredConn(p)}, from)
	}
	return true
}

func (g *Guard) judgeRequest(now flow.Time, p *packet.Packet, from Path) bool {
	c := daw.Conn{Src: p.NetworkSrc(), Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Seq: p.Seq, Link: from.Station}
	v := g.edge.Request(now, &c)
	if v.Passes() {
		return true
	}
	if v.IsLimit() {
		g.holdSource(now, &c, v)
	}
	return false
}

// answeredConn is the connection that a TCP segment answers.
func answeredConn(p *packet.Packet) *daw.Conn {
	return &daw.Conn{Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, Seq: p.Ack - 1}
}

func (g *Guard) countICMP(now flow.Time, p *packet.Packet, from Path) {
	if !meansUnreachable(p) {
		return
	}
	if q, ok := p.Quoted(); ok && q.Proto == flow.TCP && q.Src == p.Dst {
		g.countReply(now, edgeReply{tc.Unreachable, daw.Conn{Src: q.Src, Dst: q.Dst, SrcPort: q.SrcPort, DstPort: q.DstPort, Seq: q.Seq}}, from)
	}
}

// FailLog counts a drop that a firewall reported to the station.
func (g *Guard) FailLog(now flow.Time, l *daw.FailLog) daw.ReplyOutcome {
	return g.applyReply(now, &edgeReply{tc.Logged, *l.Conn()})
}

// meansUnreachable reports whether an ICMP error says that a connection failed:
// "fragmentation needed" (RFC 792, code 4) is about one packet only.
func meansUnreachable(p *packet.Packet) bool {
	if p.Proto == flow.ICMPv6 {
		return p.ICMPType == 1
	}
	return p.ICMPType == 3 && p.ICMPCode != 4
}
