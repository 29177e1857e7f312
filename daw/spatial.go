package daw

import "dragnet/flow"

// spatial is the limit on a whole customer network (Tang 2006, section 2.3.8).
// It starts once the day's list of recent failures has taken more than Phi
// addresses, and acts on the set F_Phi of sources above Tau failures.
type spatial struct {
	bucket
	active  bool
	count   uint64 // failures of the set since the limit started
	members int
	asked   uint64 // requests of the set since the limit started
	dropped uint64
	load    load
}

// load is the last judgement of whether the limit drops most requests.
type load struct {
	at             flow.Time
	asked, dropped uint64 // until then
	over           bool
}

func (s *spatial) beginLimit(now flow.Time) { *s = spatial{bucket: bucket{at: now}, active: true} }

// admitRequest is the temporal algorithm with Phi and the set's count.
func (s *spatial) admitRequest(now flow.Time, q *quota, end flow.Time) bool {
	s.asked++
	ok, _ := s.bucket.admitRequest(now, int64(s.count), 0, q, end)
	if !ok {
		s.dropped++
	}
	return ok
}

// countFailure counts a failure of r. The text counts "failures of the set
// since activation", so a source whose record is younger than the limit joins
// the set with all its failures.
func (s *spatial) countFailure(r *record, tau int) {
	if !s.active || int(r.c) <= tau {
		return
	}
	failures := uint32(1)
	if !r.hasFlag(member) {
		r.flags |= member
		s.members++
		if r.hasFlag(late) {
			failures = r.c
		}
	}
	s.count += uint64(failures)
	s.tokens -= int64(failures) * unit
}

// judgeLoad reports whether the limit drops most requests of the set: then the
// largest offenders should be blocked for some time. It judges the requests of
// each minute; a share of a few is not meaningful.
func (s *spatial) judgeLoad(now flow.Time) bool {
	const enough, span = 100, flow.Time(60 * 1e9)
	l := &s.load
	if s.asked < l.asked { // a new day
		*l = load{}
	}
	if now-l.at >= span {
		asked := s.asked - l.asked
		*l = load{now, s.asked, s.dropped, asked >= enough && 2*(s.dropped-l.dropped) > asked}
	}
	return l.over
}
