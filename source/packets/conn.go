package packets

import (
	"time"

	"dragnet/flow"
)

// conn is one open conversation. Its sides are those of its tuple; origin is
// the side of the originator, and flips when the guess turns out wrong.
type conn struct {
	tuple  tuple
	origin int
	start  flow.Time
	last   flow.Time
	sides  [2]side

	history []byte
	// recorded are the letters written only once, for originator and responder.
	recorded  [2]uint8
	missed    uint64
	icmpError uint16

	// inactivity is how long it may be silent.
	inactivity time.Duration
	timers     [numTimers]flow.Time
	due        flow.Time // the earliest of timers
	place      int       // in the queue, -1 outside

	// seen, by side, says that the first packet of a TCP side was processed;
	// midway that the start of the connection was not seen.
	seen   [2]bool
	midway bool
	// settled stops the attempt and check timers: the end state is known.
	settled bool
	// deferred is a close postponed until missing data has arrived.
	deferred bool
}

// side is one direction of a conversation.
type side struct {
	packets, ipBytes uint64
	// payload counts UDP and ICMP payload; active that there was any packet
	// with a good checksum.
	payload uint64
	active  bool
	flags   flow.TCPFlags
	corrupt uint32
	tcp     tcpSide
}

// countPacket counts a good packet.
func (s *side) countPacket(ipLen int) {
	s.packets++
	s.ipBytes += uint64(ipLen)
}

// flipRoles exchanges originator and responder.
func (c *conn) flipRoles() {
	c.origin ^= 1
	c.midway = false
	c.writeLetter('^')
}

// fillFlow writes c as a flow.
func (c *conn) fillFlow(f *flow.Flow) {
	o, r := c.origin, c.origin^1
	orig, resp := &c.sides[o], &c.sides[r]
	*f = flow.Flow{
		Start:       c.start,
		Duration:    time.Duration(max(0, c.last-c.start)),
		Proto:       flow.Proto(c.tuple.proto),
		State:       c.connState(),
		ICMPError:   c.icmpError,
		Known:       flow.AllColumns,
		Sampling:    1,
		OrigPkts:    orig.packets,
		RespPkts:    resp.packets,
		OrigIPBytes: orig.ipBytes,
		RespIPBytes: resp.ipBytes,
		OrigBytes:   orig.payload,
		RespBytes:   resp.payload,
		MissedBytes: c.missed,
	}
	f.Orig, f.OrigPort = c.tuple.endOf(o)
	f.Resp, f.RespPort = c.tuple.endOf(r)
	switch f.Proto {
	case flow.TCP:
	case flow.UDP, flow.ICMP, flow.ICMPv6:
		f.Known &^= flow.Flags | flow.ISNs
		return
	default:
		f.Known &^= flow.Flags | flow.ISNs | flow.Payload
		return
	}
	f.OrigFlags, f.RespFlags = orig.flags, resp.flags
	f.OrigISN, f.RespISN = orig.tcp.isn, resp.tcp.isn
	f.OrigBytes, f.RespBytes = c.sizeUint(o), c.sizeUint(r)
}

// connState is Zeek's conn_state.
func (c *conn) connState() flow.State {
	orig, resp := &c.sides[c.origin], &c.sides[c.origin^1]
	switch flow.Proto(c.tuple.proto) {
	case flow.TCP:
		return c.tcpState()
	case flow.UDP:
		switch {
		case orig.active && resp.active:
			return flow.SF
		case orig.active:
			return flow.S0
		case resp.active:
			return flow.SHR
		}
	}
	return flow.OTH
}
