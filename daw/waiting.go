package daw

import "dragnet/flow"

// waiting lists requests in the order in which they will count as silent, in
// fixed space: a queue over an array.
type waiting struct {
	ring        []pending
	first, used int
	after       flow.Time
	replied     flow.Time // when any reply was last seen
	paused      flow.Time // until when silence says nothing
}

type pending struct {
	src, dst key
	hash     uint64
	at       flow.Time
	seq      uint32
	ports    [2]uint16
}

// evident is how recently replies must have been seen for silence to mean
// something: where they take another path, no request is answered.
const evident = flow.Time(10 * 60 * 1e9)

func newWaiting(p *Parameters) waiting {
	w := waiting{after: flow.Time(p.Silence), replied: -evident - 1}
	if p.Silence > 0 && p.Requests > 0 {
		w.ring = make([]pending, p.Waiting)
	}
	return w
}

// early is how long a request must have waited for silence to count where there is
// no room for another: a reply that takes longer comes after the SYN was sent again
// (RFC 6298, section 2.1). Else a flood of requests to one address would hide that
// others met silence.
const early = flow.Time(1e9)

// push adds a request. countSilences has made room.
func (w *waiting) push(t flow.Time, k key, c *Conn, hash uint64) {
	if len(w.ring) == 0 {
		return
	}
	w.ring[(w.first+w.used)%len(w.ring)] = pending{k, keyOf(c.Dst), hash, t, c.Seq, [2]uint16{c.SrcPort, c.DstPort}}
	w.used++
}

func (w *waiting) pop() *pending {
	p := &w.ring[w.first]
	w.first = (w.first + 1) % len(w.ring)
	w.used--
	return p
}

// countSilences counts the requests that have waited too long, and makes room for
// another.
func (e *Edge) countSilences(now flow.Time) {
	w := &e.waiting
	for w.used > 0 && (now-w.ring[w.first].at >= w.after || w.used == len(w.ring)) {
		p := w.pop()
		if now-p.at < min(early, w.after) || now-w.replied > evident || now < w.paused || !e.requests.isWaiting(now, p.hash, p.seq) {
			continue
		}
		c := Conn{Src: p.src.toAddr(), Dst: p.dst.toAddr(), SrcPort: p.ports[0], DstPort: p.ports[1], Seq: p.seq}
		o := e.countFailure(now, Silent, &c)
		e.counts.Outcomes[o]++
		if o == Counted {
			e.counts.Silences++
		}
	}
}

// PauseSilence has requests without a reply not count until then: some replies
// come by another edge, which is not heard. A pause that is in force is not cut
// short.
func (e *Edge) PauseSilence(now, until flow.Time) {
	t := e.advanceClock(now)
	e.waiting.paused = max(e.waiting.paused, t+(until-now))
}

// isWaiting reports whether a request has had no reply so far.
func (rs *requests) isWaiting(now flow.Time, hash uint64, seq uint32) bool {
	l, tag := rs.placeOf(hash)
	tick := rs.tickOf(now)
	for i := range l.requests {
		if q := &l.requests[i]; q.at != 0 && q.tag == tag && q.seq == seq && tick-q.at <= rs.life {
			return true
		}
	}
	return false
}
