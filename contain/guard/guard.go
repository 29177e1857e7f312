// Package guard watches the packets at one edge: it tells the limits of package
// daw what passes, and proposes persistent scanners for a block.
//
// It sees both directions of the traffic between a customer network and the
// ISP. Every packet gets a verdict; whoever reads the packets drops or
// forwards by it, or only watches.
package guard

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/daw"
	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

// Configuration of a guard.
type Configuration struct {
	Limits daw.Parameters `yaml:"limits"`
	Scope  daw.Scope      `yaml:"scope"`
	// Every is how often persistent scanners are looked for.
	Every time.Duration `yaml:"every"`
}

// DefaultConfiguration watches nobody until a scope is named.
func DefaultConfiguration() Configuration {
	return Configuration{Limits: daw.DefaultParameters(), Every: time.Minute}
}

// Judge is whom a guard proposes blocks to: it never blocks by itself.
type Judge interface {
	Propose(now flow.Time, p decide.Proposal) (dossier.Decision, error)
}

// Guard is for one goroutine.
type Guard struct {
	c       Configuration
	edge    *daw.Edge
	judge   Judge
	next    flow.Time
	applied map[string]bool // identities of decisions in force here
	// Refusals counts proposals that the judge refused.
	Refusals uint64
}

// New makes a guard whose time starts at now.
func New(c Configuration, judge Judge, now flow.Time) (*Guard, error) {
	if c.Every < time.Second {
		return nil, fmt.Errorf("guard.every must be at least 1s")
	}
	edge, err := daw.New(c.Limits, c.Scope, now)
	if err != nil {
		return nil, err
	}
	return &Guard{c: c, edge: edge, judge: judge, next: now, applied: map[string]bool{}}, nil
}

// Edge gives access to the counters, for reports.
func (g *Guard) Edge() *daw.Edge { return g.edge }

// Packet tells what a packet means and returns whether it may pass.
func (g *Guard) Packet(now flow.Time, p *packet.Packet) bool {
	if now >= g.next {
		g.next = now + flow.Time(g.c.Every)
		g.look(now)
	}
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

func (g *Guard) tcp(now flow.Time, p *packet.Packet) bool {
	switch p.Flags & (flow.SYN | flow.ACK | flow.RST) {
	case flow.SYN:
		c := daw.Conn{Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Seq: p.Seq}
		return g.edge.Request(now, &c).Passes()
	case flow.SYN | flow.ACK:
		g.edge.Success(now, reply(p))
	case flow.RST | flow.ACK:
		// Only a RST that answers a SYN acknowledges it (RFC 9293, section
		// 3.5.2); one that aborts a connection has another number.
		g.edge.Failure(now, daw.Reset, reply(p))
	}
	return true
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

// look proposes those who were at their limit for n days.
func (g *Guard) look(now flow.Time) {
	for _, o := range g.edge.Persistent(now) {
		_, err := g.judge.Propose(now, decide.Proposal{
			Target: netip.PrefixFrom(o.Addr, o.Addr.BitLen()), Who: "guard",
			TTL: g.edge.NextBlock(o.Addr),
			Why: fmt.Sprintf("%s was at its limit of failing connections on %d days in a row", o.Addr, o.Days),
		})
		if err != nil {
			g.Refusals++
		}
	}
}

// Apply makes the active ones among all of a judge's decisions effective here,
// as far as they concern single sources of this edge, and ends the others' blocks. A block
// that was undone or stopped does not count as an earlier block of its source;
// one that ran its time does.
func (g *Guard) Apply(now flow.Time, decisions []dossier.Decision) {
	keep := map[netip.Addr]bool{}
	for _, d := range decisions {
		if !d.Target.IsSingleIP() || !flow.Within(g.c.Scope.Sources, d.Target.Addr()) {
			continue
		}
		addr := d.Target.Addr()
		active := d.Verdict == dossier.Active && now < d.Until
		switch {
		case active && !g.applied[d.ID]:
			g.edge.Block(now, addr)
			g.applied[d.ID] = true
		case !active && g.applied[d.ID]:
			g.edge.Unblock(now, addr, d.Verdict != dossier.Expired)
			delete(g.applied, d.ID)
		}
		keep[addr] = keep[addr] || active
	}
	for _, b := range g.edge.Blocks(now) {
		if !keep[b.Addr] { // its decision is not even remembered
			g.edge.Unblock(now, b.Addr, false)
		}
	}
}
