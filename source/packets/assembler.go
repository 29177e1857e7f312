package packets

import (
	"container/heap"
	"errors"
	"time"

	"dragnet/flow"
	"dragnet/packet"
)

// Reasons why a packet is not part of a flow.
var (
	// ErrChecksum marks packets that the receiver will have dropped. They add a
	// C to the history of their flow and are not counted otherwise.
	ErrChecksum = errors.New("wrong checksum: left out, as its receiver would")
	// ErrPiece marks a fragment of a datagram that is not complete yet, which
	// is not an error.
	ErrPiece = errors.New("fragment: the datagram is not complete yet")
)

// Assembler turns packets into flows, one packet at a time. Time is that of the
// packets. It is not safe for concurrent use.
type Assembler struct {
	config  Configuration
	servers map[Port]bool
	emit    func(*flow.Flow)

	now       flow.Time
	conns     map[tuple]*conn
	queue     queue
	fragments *packet.Defragmenter
	spare     []*conn // ended connections, for reuse
	segment   segment // the one being processed
	out       flow.Flow
	// histories holds one string for each history seen, up to a bound.
	histories map[string]string

	// Evicted counts flows emitted early because MaxFlows was reached.
	Evicted uint64
}

// New returns an Assembler that calls emit with each finished flow; the flow is
// valid during the call.
func New(config Configuration, emit func(*flow.Flow)) *Assembler {
	a := &Assembler{
		config:    config,
		servers:   make(map[Port]bool, len(config.ServerPorts)),
		emit:      emit,
		now:       flow.MinTime,
		conns:     make(map[tuple]*conn),
		fragments: packet.NewDefragmenter(),
		histories: make(map[string]string),
	}
	// A timer that sets itself again at once would never let time advance.
	a.config.CheckInterval = max(config.CheckInterval, time.Second)
	a.config.DNSInactivity = max(config.DNSInactivity, time.Second)
	for _, p := range config.ServerPorts {
		a.servers[p] = true
	}
	return a
}

// maxBackwards is how far packets may be out of order. A larger step back is
// another recording: open connections are flushed and time restarts.
const maxBackwards = flow.Time(time.Minute)

// Packet adds one decoded packet captured at ts. The error says why it was not
// added to a flow. A fragment that completes a datagram becomes that datagram,
// so that p can be passed to a stream.Assembler.
func (a *Assembler) Packet(ts flow.Time, p *packet.Packet) error {
	if a.now != flow.MinTime && ts < a.now-maxBackwards {
		a.Flush()
		a.now = ts
	}
	a.Advance(ts)
	if !a.config.IgnoreChecksums && p.HeaderChecksum() == packet.ChecksumBad {
		return ErrChecksum
	}
	if p.Fragment {
		whole, err := a.fragments.Add(ts, p)
		if err != nil {
			return err
		}
		if !whole {
			return ErrPiece
		}
	}
	bad := !a.config.IgnoreChecksums && p.Checksum() == packet.ChecksumBad
	switch p.Proto {
	case flow.TCP:
		return a.addTCP(ts, p, bad)
	case flow.UDP:
		return a.addUDP(ts, p, bad)
	case flow.ICMP, flow.ICMPv6:
		return a.addICMP(ts, p, bad)
	case protoNone, protoMobility:
		return nil
	}
	a.addOther(ts, p)
	return nil
}

// IPv6 packets of these next-header values are not part of a conversation (RFC
// 8200, section 4.7; RFC 6275).
const (
	protoNone     flow.Proto = 59
	protoMobility flow.Proto = 135
)

// Advance moves time to ts, if that is later, and ends the flows that time out.
func (a *Assembler) Advance(ts flow.Time) {
	a.now = max(a.now, ts)
	for len(a.queue) > 0 && a.queue[0].due <= a.now {
		a.fireTimers(a.queue[0])
	}
}

// Flush ends all flows.
func (a *Assembler) Flush() {
	for len(a.queue) > 0 {
		a.endConn(a.queue[0])
	}
}

// Open is the number of flows held.
func (a *Assembler) Open() int { return len(a.queue) }

// fireTimers runs the timers of c that are due.
func (a *Assembler) fireTimers(c *conn) {
	for {
		t := quiet
		for i, at := range c.timers {
			if at < c.timers[t] {
				t = timer(i)
			}
		}
		if c.timers[t] > a.now {
			a.reorderConn(c)
			return
		}
		c.timers[t] = never
		if a.hasTimedOut(c, t) {
			a.endConn(c)
			return
		}
	}
}

// hasTimedOut reports whether timer t ends c; if not, it may set t again.
func (a *Assembler) hasTimedOut(c *conn, t timer) bool {
	switch t {
	case quiet:
		if c.last+flow.Time(c.inactivity) <= a.now {
			return true
		}
		c.timers[quiet] = c.last + flow.Time(c.inactivity)
	case attempt:
		return !c.settled && c.isUnanswered()
	case check:
		if c.tuple.proto == uint16(flow.UDP) {
			c.timers[t] = a.now + flow.Time(a.config.DNSInactivity)
			return c.last+flow.Time(a.config.DNSInactivity-time.Second) <= a.now
		}
		if c.settled {
			return false
		}
		if c.last+flow.Time(a.config.Linger) < a.now && c.endedSilently() {
			return true
		}
		c.timers[t] = a.now + flow.Time(a.config.CheckInterval)
	case linger:
		return true
	}
	return false
}

// findConn returns the conversation of t, or nil.
func (a *Assembler) findConn(t tuple) *conn { return a.conns[t] }

// openConn starts a conversation; side sent its first packet.
func (a *Assembler) openConn(ts flow.Time, t tuple, side int, inactivity time.Duration) *conn {
	for len(a.queue) >= max(1, a.config.MaxFlows) {
		a.evictNearest()
	}
	var c *conn
	if n := len(a.spare); n > 0 {
		c = a.spare[n-1]
		a.spare = a.spare[:n-1]
		*c = conn{history: c.history[:0]}
	} else {
		c = new(conn)
	}
	c.tuple, c.origin, c.start, c.last, c.inactivity = t, side, ts, ts, inactivity
	for i := range c.timers {
		c.timers[i] = never
	}
	c.timers[quiet] = ts + flow.Time(inactivity)
	c.due = c.timers[quiet]
	a.conns[t] = c
	heap.Push(&a.queue, c)
	return c
}

// evictNearest ends the flow nearest to its timeout.
func (a *Assembler) evictNearest() {
	// The inactivity timer is moved only when it fires, so the first in the
	// queue may be active.
	for range 16 {
		c := a.queue[0]
		busy := c.last + flow.Time(c.inactivity)
		if c.timers[quiet] > c.due || busy <= c.due {
			break
		}
		a.setTimer(c, quiet, busy)
	}
	a.Evicted++
	a.endConn(a.queue[0])
}

// maxHistories bounds the strings kept for reuse.
const maxHistories = 1 << 12

// endConn emits c and removes it.
func (a *Assembler) endConn(c *conn) {
	delete(a.conns, c.tuple)
	heap.Remove(&a.queue, c.place)
	c.fillFlow(&a.out)
	text, ok := a.histories[string(c.history)]
	if !ok {
		text = string(c.history)
		if len(a.histories) < maxHistories {
			a.histories[text] = text
		}
	}
	a.out.History = text
	a.emit(&a.out)
	if len(a.spare) < 1024 {
		a.spare = append(a.spare, c)
	}
}

// isServerPort reports whether servers listen on a port.
func (a *Assembler) isServerPort(proto flow.Proto, port uint16) bool {
	return a.servers[Port{proto, port}]
}
