package guard

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/contain/guard/tc"
	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/conf"
)

// EdgesConfiguration names the guards at the other edges of the same customer
// network. A request may leave by one edge and its reply come by another: each
// guard passes on the replies that it cannot match, and the limits are divided
// evenly among all.
type EdgesConfiguration struct {
	// Listen is the address and UDP port where the others' datagrams arrive.
	Listen netip.AddrPort `yaml:"listen"`
	// Peers are the others' addresses and ports, as their datagrams carry them.
	Peers []netip.AddrPort `yaml:"peers"`
	// Key is a file of at least 32 bytes, the same at each, which authenticates the
	// datagrams: head -c 32 /dev/urandom > edges.key.
	Key string `yaml:"key"`
}

// maxEdges bounds the edges of a customer network.
const maxEdges = 16

// Validate reports all invalid settings.
func (c *EdgesConfiguration) Validate() error {
	var p conf.Problems
	if len(c.Peers) == 0 {
		p.Check(!c.Listen.IsValid() && c.Key == "", "peers", "is empty: name the guards at the other edges")
		return p.Join()
	}
	p.Check(len(c.Peers) < maxEdges, "peers", "are %d; want at most %d", len(c.Peers), maxEdges-1)
	p.Check(c.Listen.IsValid() && c.Listen.Port() != 0 && !c.Listen.Addr().IsUnspecified(), "listen", "is %s; want this edge's address and a port, such as 192.0.2.1:9125", c.Listen)
	p.Check(c.Key != "", "key", "is empty: without a key anybody could send replies in the others' names")
	for i, a := range c.Peers {
		p.Check(a.IsValid() && a.Port() != 0 && a != c.Listen, fmt.Sprintf("peers[%d]", i), "%s is not another guard's address and port", a)
	}
	return p.Join()
}

// count is the number of edges, this one included.
func (c *EdgesConfiguration) count() int { return len(c.Peers) + 1 }

// edgeReply is a reply to a request of the customer network.
type edgeReply struct {
	kind tc.Reply // datagrams number them so; none has one that a firewall logged
	conn daw.Conn
}

// limiter judges and counts packets in a guard's place.
type limiter interface {
	reply(tc.Reply, *daw.Conn) daw.ReplyOutcome
	pause(until flow.Time)
}

// maxElsewhere bounds the replies that wait to be passed on.
const maxElsewhere = 4096

// countReply counts a reply that came here, and keeps it for the other edges if no
// request of this one explains it.
func (g *Guard) countReply(now flow.Time, r edgeReply, from Path) {
	if g.applyReply(now, &r) != daw.Forged || g.c.Edges.count() == 1 || !from.Outside {
		return
	}
	g.passOn(r)
}

// passOn keeps a reply for the other edges.
func (g *Guard) passOn(r edgeReply) {
	if len(g.elsewhere) == maxElsewhere {
		g.stats.Unshared++
		g.leftOut = true
		return
	}
	g.elsewhere = append(g.elsewhere, r)
}

func (g *Guard) applyReply(now flow.Time, r *edgeReply) daw.ReplyOutcome {
	if g.inline != nil {
		return g.inline.reply(r.kind, &r.conn)
	}
	switch r.kind {
	case tc.Logged:
		return g.edge.Failure(now, daw.Logged, &r.conn)
	case tc.Reset:
		return g.edge.Failure(now, daw.Reset, &r.conn)
	case tc.Unreachable:
		return g.edge.Failure(now, daw.Unreachable, &r.conn)
	}
	return g.edge.Success(now, &r.conn)
}

// takeElsewhere returns the replies for the other edges, and whether some had to be
// left out.
func (g *Guard) takeElsewhere() (all []edgeReply, leftOut bool) {
	all, leftOut = g.elsewhere, g.leftOut
	g.elsewhere, g.leftOut = nil, false
	return all, leftOut
}

// takeShared counts replies that came by another edge.
func (g *Guard) takeShared(now flow.Time, all []edgeReply) {
	for i := range all {
		g.stats.Shared++
		g.applyReply(now, &all[i])
	}
}

// deaf informs the guard that replies at another edge may have been missed until
// now: requests that wait for them are not silent for that.
func (g *Guard) deaf(now flow.Time) {
	until := now + flow.Time(g.c.Limits.Match) + flow.Time(time.Second)
	if g.inline != nil {
		g.inline.pause(until)
		return
	}
	g.edge.PauseSilence(now, until)
}
