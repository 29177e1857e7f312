package biflow

import (
	"time"

	"dragnet/flow"
	"dragnet/packet"
)

// findOriginator decides which side opened a conversation. What is certain comes
// first: what the exporter says, then TCP flags, then time, unless packets
// were sampled or it is too near, then ports.
func (e *entry) findOriginator() int {
	if e.origin != undecided {
		return int(e.origin)
	}
	a, b := &e.sides[0], &e.sides[1]
	switch flow.Proto(e.key.proto) {
	case flow.ICMP, flow.ICMPv6:
		return e.findAsker()
	case flow.TCP:
		if o := byFlags(a, b); o != undecided {
			return o
		}
		// Both were there from the beginning, so the first to send opened it.
		if a.flags&b.flags&flow.SYN != 0 && e.sampling <= 1 && (a.start-b.start > exact || b.start-a.start > exact) {
			return earlierSide(a, b)
		}
	}
	if o := byService(e.key.portA, e.key.portB); o != undecided {
		return o
	}
	switch {
	case !b.seen:
		return 0
	case !a.seen:
		return 1
	case e.sampling <= 1 && a.start != b.start:
		return earlierSide(a, b)
	case e.key.portA < e.key.portB:
		return 1
	}
	return 0
}

// exact is how far the times of two directions may be off: exporters round them,
// and Open vSwitch notes when it handled a packet.
const exact = 20 * flow.Time(time.Millisecond)

func earlierSide(a, b *side) int {
	if a.start < b.start {
		return 0
	}
	return 1
}

// findAsker finds the side that sent ICMP requests, or the only one.
func (e *entry) findAsker() int {
	proto := flow.Proto(e.key.proto)
	kind, answer := uint8(e.key.portA), uint8(e.key.portB)
	if _, _, paired := packet.ICMPPorts(proto, kind, answer); !paired {
		return 0
	}
	requests := e.key.portA == 8 || e.key.portA == 10 || e.key.portA == 13 || e.key.portA == 15 || e.key.portA == 17
	if proto == flow.ICMPv6 { // each request is the number before its reply
		requests = kind < answer
	}
	if requests {
		return 0
	}
	return 1
}

// byFlags finds the side that sent a SYN that acknowledges nothing: the flags
// of a whole connection, in which each side acknowledges, show none.
func byFlags(a, b *side) int {
	first, second := sentSYN(a), sentSYN(b)
	switch {
	case first && !second:
		return 0
	case second && !first:
		return 1
	case sentAnswer(a) && !sentAnswer(b):
		return 1
	case sentAnswer(b) && !sentAnswer(a):
		return 0
	}
	return undecided
}

// sentSYN reports whether a side certainly sent the first SYN.
func sentSYN(s *side) bool { return s.flags&(flow.SYN|flow.ACK) == flow.SYN }

// sentAnswer reports whether a side certainly sent the second packet: a single
// one with SYN and ACK, or a reset without ever having sent a SYN.
func sentAnswer(s *side) bool {
	return s.packets == 1 && s.flags&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK ||
		s.packets == 1 && s.flags&(flow.SYN|flow.RST|flow.ACK|flow.PSH|flow.FIN) == flow.RST|flow.ACK
}

// Ports below privileged belong to services; those from ephemeral on are taken
// by clients (IANA's range begins at 49152, Linux's at 32768).
const (
	privileged = 1024
	ephemeral  = 32768
)

// byService finds the originator when the other port alone is a service's.
func byService(portA, portB uint16) int {
	for _, limit := range []uint16{privileged, ephemeral} {
		switch {
		case portA < limit && portB >= limit:
			return 1
		case portB < limit && portA >= limit:
			return 0
		}
	}
	return undecided
}

// judgeState gives the state in Zeek's terms, as far as flags and counts tell it.
func (e *entry) judgeState(orig, resp *side) flow.State {
	sampled := e.sampling > 1
	switch flow.Proto(e.key.proto) {
	case flow.TCP:
		if e.known.Has(flow.Flags) {
			return tcpState(orig, resp, sampled)
		}
		return flow.StateUnknown
	case flow.UDP:
		switch {
		case orig.seen && resp.seen:
			return flow.SF
		case sampled:
			return flow.StateUnknown
		case orig.seen:
			return flow.S0
		}
		return flow.SHR
	}
	return flow.OTH
}

// tcpState reads the union of the flags each side sent. A single packet not
// seen proves nothing when packets are sampled.
func tcpState(orig, resp *side, sampled bool) flow.State {
	o, r := orig.flags, resp.flags
	if orig.seen && r&flow.SYN != 0 {
		return establishedState(o, r)
	}
	if sampled {
		return flow.StateUnknown
	}
	switch {
	case !orig.seen && r&flow.SYN != 0 && r&flow.RST != 0:
		return flow.RSTRH
	case !orig.seen && r&flow.SYN != 0 && r&flow.FIN != 0:
		return flow.SHR
	case o&flow.SYN == 0:
		return flow.OTH
	case resp.seen && r&flow.RST != 0:
		return flow.REJ
	case resp.seen:
		return flow.OTH
	case o&flow.RST != 0:
		return flow.RSTOS0
	case o&flow.ACK != 0:
		return flow.OTH // an answer came that this exporter does not see
	case o&flow.FIN != 0:
		return flow.SH
	}
	return flow.S0
}

// establishedState returns the state of a connection whose SYN was answered by a SYN.
func establishedState(o, r flow.TCPFlags) flow.State {
	switch {
	case o&r&flow.FIN != 0:
		return flow.SF
	case o&flow.RST != 0:
		return flow.RSTO
	case r&flow.RST != 0:
		return flow.RSTR
	case o&flow.FIN != 0:
		return flow.S2
	case r&flow.FIN != 0:
		return flow.S3
	}
	return flow.S1
}
