package stream

import (
	"container/list"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/packet"
)

// Assembler follows many connections. It is not safe for concurrent use.
type Assembler struct {
	config Configuration
	open   func(Key) Handler
	now    flow.Time

	conns map[Key]*connection
	// recent lists connections, the longest idle first.
	recent  *list.List
	waiting int // bytes above holes, of all connections

	// Dropped counts segments not added to a stream: wrong checksums, and
	// sequence numbers far from those expected.
	Dropped uint64
	// Evicted counts connections closed because there were too many.
	Evicted uint64
}

// connection is one connection; the key's client sends halves[ToServer].
type connection struct {
	key     Key
	handler Handler
	halves  [2]half
	last    flow.Time
	place   *list.Element
}

// New returns an Assembler. It calls open when a connection starts; a nil
// Handler ignores its data.
func New(config Configuration, open func(Key) Handler) *Assembler {
	return &Assembler{
		config: config,
		open:   open,
		now:    flow.MinTime,
		conns:  make(map[Key]*connection),
		recent: list.New(),
	}
}

// Now is the time of the latest packet.
func (a *Assembler) Now() flow.Time { return a.now }

// Open is the number of connections followed.
func (a *Assembler) Open() int { return len(a.conns) }

// Waiting is the number of bytes held above holes.
func (a *Assembler) Waiting() int { return a.waiting }

// Confirmed reports whether the sender of a direction has received from the other
// end: it acknowledged that end's SYN, whose number one who forges the sender's
// address and sees none of its packets cannot know. Handlers may call it. It is
// false for a connection whose beginning was not seen.
func (a *Assembler) Confirmed(k Key, sender Direction) bool {
	c := a.conns[k]
	return c != nil && c.halves[sender^1].acked
}

// Expected returns the number of the byte that each end expects next: the server's
// and the client's. It is false where one of them has sent nothing yet, or both
// have ended. Handlers may call it.
func (a *Assembler) Expected(k Key) (server, client uint32, ok bool) {
	c := a.conns[k]
	if c == nil || !c.halves[ToServer].anchored || !c.halves[ToClient].anchored || c.halves[ToServer].isDelivered() && c.halves[ToClient].isDelivered() {
		return 0, 0, false
	}
	return c.halves[ToServer].expected(), c.halves[ToClient].expected(), true
}

// maxBackwards is how far packets may be out of order. A larger step back is
// another recording: open connections are flushed and time restarts.
const maxBackwards = flow.Time(time.Minute)

// Packet adds a packet captured at ts; anything but a whole TCP segment is
// ignored.
func (a *Assembler) Packet(ts flow.Time, p *packet.Packet) {
	if a.now != flow.MinTime && ts < a.now-maxBackwards {
		a.Flush()
		a.now = ts
	}
	a.Advance(ts)
	if p.Proto != flow.TCP || !p.Decoded {
		return
	}
	if !a.config.IgnoreChecksums && p.Checksum() == packet.ChecksumBad {
		a.Dropped++
		return
	}
	src, dst := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)
	c, dir := a.findConnection(src, dst)
	if c != nil && c.isReplaced(dir, p) {
		a.closeConnection(c, Reused)
		c = nil
	}
	if c == nil {
		if p.Flags&flow.RST != 0 || p.Flags&flow.SYN == 0 && p.PayloadLen == 0 {
			return // nothing to follow, perhaps the rest of a connection
		}
		c, dir = a.beginConnection(src, dst, p)
	}
	c.last = ts
	a.recent.MoveToBack(c.place)
	if c.handler != nil {
		a.addSegment(c, dir, p)
	} else if p.Flags&flow.RST != 0 {
		a.closeConnection(c, Reset)
	}
}

// findConnection returns the connection between two ends and the direction of a packet
// from src.
func (a *Assembler) findConnection(src, dst netip.AddrPort) (*connection, Direction) {
	if c := a.conns[Key{src, dst}]; c != nil {
		return c, ToServer
	}
	return a.conns[Key{dst, src}], ToClient
}

func (a *Assembler) beginConnection(src, dst netip.AddrPort, p *packet.Packet) (*connection, Direction) {
	key, dir := Key{src, dst}, ToServer
	if p.Flags&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK {
		key, dir = Key{dst, src}, ToClient
	}
	for len(a.conns) >= max(1, a.config.MaxConnections) {
		a.Evicted++
		a.closeConnection(a.recent.Front().Value.(*connection), Evicted)
	}
	c := &connection{key: key, handler: a.open(key)}
	c.place = a.recent.PushBack(c)
	a.conns[key] = c
	return c, dir
}

// isReplaced reports whether p is the SYN of a new connection.
func (c *connection) isReplaced(dir Direction, p *packet.Packet) bool {
	h := &c.halves[dir]
	return p.Flags&(flow.SYN|flow.ACK) == flow.SYN && h.anchored && p.Seq+1 != h.base
}

// Advance moves time to ts, if that is later, and closes idle connections.
func (a *Assembler) Advance(ts flow.Time) {
	a.now = max(a.now, ts)
	for e := a.recent.Front(); e != nil; e = a.recent.Front() {
		c := e.Value.(*connection)
		if c.last+flow.Time(a.config.IdleTimeout) > a.now {
			return
		}
		a.closeConnection(c, Idle)
	}
}

// Flush closes all connections.
func (a *Assembler) Flush() {
	for e := a.recent.Front(); e != nil; e = a.recent.Front() {
		a.closeConnection(e.Value.(*connection), Flushed)
	}
}

// closeConnection delivers waiting data, and ends c.
func (a *Assembler) closeConnection(c *connection, why CloseReason) {
	defer delete(a.conns, c.key)
	a.recent.Remove(c.place)
	if c.handler == nil {
		return
	}
	for dir := range c.halves {
		a.skipHoles(c, Direction(dir), 0)
	}
	c.handler.Close(why)
}
