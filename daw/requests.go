package daw

import (
	"net/netip"
	"time"

	"dragnet/flow"
)

// Conn names a connection as its source opened it: also in the replies, where
// the packet's own addresses are the other way round.
type Conn struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	// Seq is the sequence number of the SYN: in a TCP reply the acknowledged
	// number minus 1, in an ICMP error the quoted one.
	Seq uint32
	// Link identifies the neighbour the router received it from (a MAC address,
	// a port), 0 if unknown.
	Link uint64
}

func (c *Conn) hashWith(src, dst key, seed uint64) uint64 {
	ports := uint64(c.SrcPort)<<16 | uint64(c.DstPort)
	return foldProduct(src.hashWith(seed)^ports, dst.hashWith(seed^0x8ebc6af09c88c6e3))
}

// requests keeps recent requests by fingerprint, in a fixed space. Within a
// line the oldest is replaced; a line that lost a live entry records that until
// the entry would have expired, and meanwhile cannot call a reply forged.
type requests struct {
	lines []line
	epoch flow.Time
	life  uint32 // tenths of a second

	touched uint32 // keeps touch from being optimised away
}

// line is one cache line: 5 requests.
type line struct {
	requests [5]request
	lost     uint32
}

type request struct{ tag, seq, at uint32 }

// replyMatch is the result of matching a reply to the requests kept.
type replyMatch uint8

const (
	unknown replyMatch = iota // the line has lost requests
	forged                    // there was no such request
	matched
)

func newRequests(size int, life time.Duration, now flow.Time) requests {
	r := requests{epoch: now, life: uint32(max(1, life/(100*time.Millisecond)))}
	if size > 0 {
		n := 1
		for n*len(line{}.requests) < size {
			n *= 2
		}
		r.lines = make([]line, n)
	}
	return r
}

// tickOf counts tenths of a second from 1 on; 0 marks what is empty. It wraps
// after 13 years.
func (rs *requests) tickOf(now flow.Time) uint32 {
	return uint32(int64(now-rs.epoch)/int64(100*time.Millisecond)) + 1
}

func (rs *requests) placeOf(hash uint64) (*line, uint32) {
	return &rs.lines[hash&uint64(len(rs.lines)-1)], uint32(hash >> 32)
}

// prefetchLine starts to fetch a line that addRequest or takeRequest will need
// shortly, so that memory is read while the source is looked up.
func (rs *requests) prefetchLine(hash uint64) {
	if len(rs.lines) > 0 {
		l, _ := rs.placeOf(hash)
		rs.touched = l.lost
	}
}

// addRequest records a request and reports whether it is new rather than a
// retransmission. A SYN with another sequence number is another request: a
// decoy must not hide the one before it.
func (rs *requests) addRequest(now flow.Time, hash uint64, seq uint32) bool {
	if len(rs.lines) == 0 {
		return true
	}
	l, tag := rs.placeOf(hash)
	tick := rs.tickOf(now)
	oldest := 0
	for i := range l.requests {
		q := &l.requests[i]
		if q.tag == tag && q.seq == seq && q.at != 0 && tick-q.at <= rs.life {
			q.at = tick
			return false
		}
		if ageOf(q.at, tick) > ageOf(l.requests[oldest].at, tick) {
			oldest = i
		}
	}
	q := &l.requests[oldest]
	if q.at != 0 && tick-q.at <= rs.life {
		l.lost = q.at + rs.life
	}
	*q = request{tag, seq, tick}
	return true
}

// ageOf orders entries; an empty one is older than any other.
func ageOf(at, tick uint32) uint32 {
	if at == 0 {
		return ^uint32(0)
	}
	return tick - at
}

// takeRequest finds the request a reply belongs to and removes it, so that one
// request has one outcome. checkSeq is false for replies without a sequence
// number.
func (rs *requests) takeRequest(now flow.Time, hash uint64, seq uint32, checkSeq bool) replyMatch {
	if len(rs.lines) == 0 {
		return unknown
	}
	l, tag := rs.placeOf(hash)
	tick := rs.tickOf(now)
	for i := range l.requests {
		q := &l.requests[i]
		if q.at == 0 || q.tag != tag || tick-q.at > rs.life || checkSeq && q.seq != seq {
			continue
		}
		*q = request{}
		return matched
	}
	if l.lost != 0 && int32(l.lost-tick) >= 0 {
		return unknown
	}
	return forged
}
