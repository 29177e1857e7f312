// Package guard is DAW's agent at one edge of an ISP (Tang 2006, section 2.3.3):
// it watches the packets between a customer network and the ISP, tells the
// limits of package daw what passes, and holds back or blocks sources at the
// router it stands beside.
//
// It judges nobody. What it does by itself, it does under a standing Decision
// that says who allowed it, why, until when, and how many addresses at a time;
// without one it only counts. All else comes as Decisions from its station.
// The allow list wins over both. While the station cannot be reached, a guard
// goes on with its last orders and says so.
//
// Guard is pure: time is an argument, packets and decisions come in, what to
// hold and to block goes out. Role runs it on a live interface.
package guard

import (
	"net/netip"
	"slices"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

// Guard is for one goroutine.
type Guard struct {
	c     Configuration
	edge  *daw.Edge
	scope daw.Scope // as configured or ordered, before exemptions
	next  flow.Time // when persistent scanners are looked for again

	configured dossier.Decision // the standing one of the configuration, no ID: none
	standing   dossier.Decision // the one in force
	acting     bool             // by itself, and not in a dry run
	orders     []dossier.Decision
	own        []dossier.Decision // blocks made here under the standing decision
	allow      []netip.Prefix
	inForce    map[string]bool // identities of decisions the edge blocks by
	persistent []daw.Persistent
	stationed  bool   // somebody else judges proposals
	drops      uint64 // number of the next drop of a firewall

	holds   map[netip.Prefix]*hold
	fresh   []nft.Hold // not at the router yet
	release bool       // the router is to let all go
	changed bool       // decisions differ from what the router was told

	event func(Event)
	stats Stats
}

// Stats count what a guard did since it began.
type Stats struct {
	// Packets were looked at.
	Packets uint64
	// Held counts times that a source began to be held back, Refused requests
	// of sources that were not for want of budget.
	Held, Refused uint64
}

// New makes a guard whose time starts at now; event is called for each thing it
// does, and may be nil. A snapshot, if not nil, is what an earlier one knew.
func New(c Configuration, now flow.Time, snapshot []byte, event func(Event)) (*Guard, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	g := &Guard{
		c: c, scope: c.watched(), next: now, allow: slices.Clone(c.Allow), inForce: map[string]bool{},
		holds: map[netip.Prefix]*hold{}, event: event, stationed: c.Station != "", changed: true,
	}
	if event == nil {
		g.event = func(Event) {}
	}
	var err error
	if snapshot != nil {
		g.edge, err = daw.Restore(c.Limits, g.exempted(), now, snapshot)
	} else {
		g.edge, err = daw.New(c.Limits, g.exempted(), now)
	}
	if err != nil {
		return nil, err
	}
	if c.Standing.By != "" {
		g.configured = c.Standing.decision(now)
		g.standing = g.configured
		g.event(Event{Time: now, What: "standing", Decision: g.standing.ID, Until: g.standing.Until, Why: g.standing.Why, Verdict: g.standing.Verdict})
	}
	return g, nil
}

// exempted is the scope without those who are never to be hindered.
func (g *Guard) exempted() daw.Scope {
	s := g.scope
	s.Exempt = append(slices.Clone(s.Exempt), g.allow...)
	return s
}

// Edge gives access to the counters, for reports.
func (g *Guard) Edge() *daw.Edge { return g.edge }

// Stats tells what was done so far.
func (g *Guard) Stats() Stats { return g.stats }

// Packet tells what a packet means and returns whether it may pass: whoever
// forwards packets can drop by it; whoever only watches uses Plan.
func (g *Guard) Packet(now flow.Time, p *packet.Packet) bool {
	g.stats.Packets++
	g.Tick(now)
	if !p.Decoded {
		return true
	}
	switch p.Proto {
	case flow.TCP:
		return g.tcp(now, p)
	case flow.ICMP, flow.ICMPv6:
		g.icmp(now, p)
	}
	return true
}

// Tick looks for persistent scanners when it is time to, whether packets come
// or not.
func (g *Guard) Tick(now flow.Time) {
	if now >= g.next {
		g.next = now + flow.Time(g.c.Every)
		g.look(now)
	}
}

// Settle ends what is over; it is called at least once a second.
func (g *Guard) Settle(now flow.Time) { g.settle(now) }

func (g *Guard) tcp(now flow.Time, p *packet.Packet) bool {
	switch p.Flags & (flow.SYN | flow.ACK | flow.RST) {
	case flow.SYN:
		return g.request(now, p)
	case flow.SYN | flow.ACK:
		g.edge.Success(now, reply(p))
	case flow.RST | flow.ACK:
		// Only a RST that answers a SYN acknowledges it (RFC 9293, section
		// 3.5.2); one that aborts a connection has another number.
		g.edge.Failure(now, daw.Reset, reply(p))
	}
	return true
}

func (g *Guard) request(now flow.Time, p *packet.Packet) bool {
	c := daw.Conn{Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Seq: p.Seq}
	v := g.edge.Request(now, &c)
	if v.Passes() {
		return true
	}
	if v == daw.Temporal || v == daw.Network64 || v == daw.Spatial {
		g.hold(now, &c, v)
	}
	return false
}

// reply is the connection that a TCP segment answers.
func reply(p *packet.Packet) *daw.Conn {
	return &daw.Conn{Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, Seq: p.Ack - 1}
}

func (g *Guard) icmp(now flow.Time, p *packet.Packet) {
	if !unreachable(p) {
		return
	}
	if q, ok := p.Quoted(); ok && q.Proto == flow.TCP && q.Src == p.Dst {
		g.edge.Failure(now, daw.Unreachable, &daw.Conn{Src: q.Src, Dst: q.Dst, SrcPort: q.SrcPort, DstPort: q.DstPort, Seq: q.Seq})
	}
}

// FailLog counts a drop that a firewall told the station of.
func (g *Guard) FailLog(now flow.Time, l *daw.FailLog) daw.Outcome {
	return g.edge.Failure(now, daw.Logged, l.Conn())
}

// unreachable reports whether an ICMP error says that a connection failed:
// "fragmentation needed" (RFC 792, code 4) is about one packet only.
func unreachable(p *packet.Packet) bool {
	if p.Proto == flow.ICMPv6 {
		return p.ICMPType == 1
	}
	return p.ICMPType == 3 && p.ICMPCode != 4
}
