package daw

import "dragnet/flow"

// spatial is the limit on a customer network as a whole (Tang 2006, section
// 2.3.8). It starts once the day's list of recent failures has taken more than
// Phi addresses, and acts on the set F_Phi of sources above Tau failures.
type spatial struct {
	bucket
	active  bool
	count   uint64 // failures of the set since the limit began
	members int
	asked   uint64 // requests of the set since then
	dropped uint64
}

func (s *spatial) begin(now flow.Time) { *s = spatial{bucket: bucket{at: now}, active: true} }

// admit is the temporal algorithm with Phi and the set's count.
func (s *spatial) admit(now flow.Time, q quota, end flow.Time) bool {
	s.asked++
	ok, _ := s.bucket.admit(now, float64(s.count), 0, q, end)
	if !ok {
		s.dropped++
	}
	return ok
}

// fail counts a failure of r. The text counts "failures of the set since
// activation", so a source whose record is younger than the limit joins the
// set with all it failed.
func (s *spatial) fail(r *record, tau int) {
	if !s.active || int(r.c) <= tau {
		return
	}
	failures := uint32(1)
	if !r.is(member) {
		r.flags |= member
		s.members++
		if r.is(late) {
			failures = r.c
		}
	}
	s.count += uint64(failures)
	s.tokens -= float64(failures)
}

// overwhelmed reports that the limit drops most requests of the set: then the
// largest offenders should be blocked for a while.
func (s *spatial) overwhelmed() bool {
	const enough = 1000 // requests, before a share means anything
	return s.asked >= enough && 2*s.dropped > s.asked
}
