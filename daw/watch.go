package daw

import (
	"math"
	"net/netip"
	"time"

	"dragnet/flow"
)

// Slipped is for an agent that watches packets instead of forwarding them: it
// records a request that Request wanted dropped, so that its failure counts if
// the request was forwarded nevertheless.
func (e *Edge) Slipped(now flow.Time, c *Conn) {
	t := e.advanceClock(now)
	if e.scope.watchesConn(c) {
		k := keyOf(c.Src)
		if hash := c.hashWith(k, keyOf(c.Dst), e.p.Seed); e.requests.addRequest(t, hash, c.Seq) {
			e.waiting.push(t, k, c, hash)
		}
	}
}

// Wait is how long no request of a source will be forwarded after verdict v:
// for an agent that cannot drop single packets. It is 0 for a verdict that
// forwards, and lasts at most until midnight.
func (e *Edge) Wait(now flow.Time, addr netip.Addr, v RequestVerdict) time.Duration {
	t := e.advanceClock(now)
	k := keyOf(addr)
	switch v {
	case Temporal:
		return e.hosts.waitTime(t, k, &e.p, e.clock.end)
	case Network64, Network56, Network48:
		i := int(v - Network64)
		return e.prefixes[i].waitTime(t, k.prefixOf(i), &e.p, e.clock.end)
	case Spatial:
		return e.spatial.bucket.waitTime(t, int64(e.spatial.count), 0, &e.network, e.clock.end)
	case Blocked:
		if h := e.blocks[k]; h != nil {
			return time.Duration(max(0, h.until-t))
		}
	}
	return 0
}

func (t *tier) waitTime(now flow.Time, k key, p *Parameters, end flow.Time) time.Duration {
	s := t.findSource(k)
	if s.record == nil {
		return 0
	}
	return s.record.bucket.waitTime(now, int64(s.record.c), t.usedOf(&s, p), &t.quota, end)
}

// waitTime is the time until admit would let a request pass if nothing failed
// meanwhile.
func (b *bucket) waitTime(now flow.Time, c, used int64, q *quota, end flow.Time) time.Duration {
	rest := q.omega - used
	per := float64(q.refill) // a ms
	if 2*c >= rest {
		per = 0
		if left := float64(end-b.at) / ms; left > 0 {
			per = max(0, float64((rest-c)*unit-b.tokens)/left)
		}
	}
	midnight := time.Duration(max(0, end-now))
	missing := unit - b.tokens
	if missing <= 0 {
		return 0
	}
	span := math.Ceil(float64(missing)/per) * ms
	if per == 0 || span > math.MaxInt64/2 {
		return midnight
	}
	return max(0, min(midnight, time.Duration(span)-time.Duration(now-b.at)))
}
