package biflow

import (
	"time"

	"dragnet/flow"
)

// takeRecord adds a record whose source is side from.
func (e *entry) takeRecord(r *Record, from int) {
	e.known |= r.Known
	e.sampling = max(e.sampling, r.Sampling)
	if r.State != flow.StateUnknown {
		e.state = r.State
	}
	if r.ICMPError != 0 {
		e.icmpError = r.ICMPError
	}
	switch r.Origin {
	case OriginSource:
		e.origin = int8(from)
	case OriginDestination:
		e.origin = int8(from ^ 1)
	}
	forward := side{flags: r.OrigFlags, isn: r.OrigISN, packets: r.OrigPkts, ipBytes: r.OrigIPBytes, payload: r.OrigBytes}
	if !r.Biflow {
		e.addCounts(from, forward, r)
		return
	}
	if !r.Arbitrary {
		e.origin = int8(from)
	}
	if r.OrigPkts > 0 || r.RespPkts == 0 {
		e.addCounts(from, forward, r)
	}
	if r.RespPkts > 0 || r.RespFlags != 0 {
		e.addCounts(from^1, side{flags: r.RespFlags, isn: r.RespISN, packets: r.RespPkts, ipBytes: r.RespIPBytes, payload: r.RespBytes}, r)
	}
	// Nothing more is to come of the other direction either.
	e.sides[from^1].over = e.sides[from^1].over || r.Over
}

// addCounts counts packets of one direction, unless they were counted at another
// observation point of the exporter: as they entered, or in another domain.
func (e *entry) addCounts(at int, more side, r *Record) {
	s := &e.sides[at]
	if s.seen && (s.domain != r.Domain || s.egress != r.Egress) {
		e.quality.Duplicates++
		s.flags |= more.flags
		return
	}
	if !s.seen {
		s.seen, s.domain, s.egress, s.start, s.end = true, r.Domain, r.Egress, r.Start, r.End()
	}
	s.start, s.end = min(s.start, r.Start), max(s.end, r.End())
	s.flags |= more.flags
	s.packets += more.packets
	s.ipBytes += more.ipBytes
	s.payload += more.payload
	if s.isn == 0 {
		s.isn = more.isn
	}
	s.over = s.over || r.Over
}

// isEnded reports whether no further record is expected.
func (e *entry) isEnded() bool {
	a, b := &e.sides[0], &e.sides[1]
	if a.over && b.over {
		return true
	}
	if !a.seen || !b.seen || flow.Proto(e.key.proto) != flow.TCP {
		return false
	}
	return (a.flags|b.flags)&flow.RST != 0 || a.flags&b.flags&flow.FIN != 0
}

// startTime and endTime return the times of the first and of the last packet.
func (e *entry) startTime() flow.Time {
	a, b := &e.sides[0], &e.sides[1]
	switch {
	case !a.seen:
		return b.start
	case !b.seen:
		return a.start
	}
	return min(a.start, b.start)
}

func (e *entry) endTime() flow.Time { return max(e.sides[0].end, e.sides[1].end) }

// fillFlow writes e as a flow, and counts it.
func (e *entry) fillFlow(f *flow.Flow) {
	o := e.findOriginator()
	orig, resp := &e.sides[o], &e.sides[o^1]
	start := e.startTime()
	// A source that was seen first or last only has no end before its start.
	*f = flow.Flow{
		Start: start, Duration: time.Duration(max(0, e.endTime()-start)), Proto: flow.Proto(e.key.proto),
		OrigFlags: orig.flags, RespFlags: resp.flags, OrigISN: orig.isn, RespISN: resp.isn, ICMPError: e.icmpError,
		OrigPkts: orig.packets, RespPkts: resp.packets, OrigIPBytes: orig.ipBytes, RespIPBytes: resp.ipBytes,
		OrigBytes: orig.payload, RespBytes: resp.payload,
		Known: e.known, Sampling: e.sampling, Domain: orig.domain, State: e.state,
	}
	if !orig.seen {
		f.Domain = resp.domain
	}
	f.Orig, f.OrigPort = e.key.endpoint(o)
	f.Resp, f.RespPort = e.key.endpoint(o ^ 1)
	f.Exporter, _ = (&key{a: e.key.exporter}).endpoint(0)
	// A refusal is believed only of what nothing answered.
	both := orig.seen && resp.seen
	if f.State == flow.StateUnknown && (!e.cut || both) || both && f.State == flow.S0 {
		f.State = e.judgeState(orig, resp)
	}
	e.quality.Flows++
	if orig.seen && resp.seen {
		e.quality.Joined++
	} else if e.hasAnswered(orig) || e.hasAnswered(resp) {
		e.quality.OneSided++
	}
}

// hasAnswered reports whether a TCP side answered what the other side sent.
func (e *entry) hasAnswered(s *side) bool {
	return flow.Proto(e.key.proto) == flow.TCP && s.flags&flow.ACK != 0
}
