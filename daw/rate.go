package daw

import (
	"math"

	"dragnet/flow"
)

// The arithmetic is in integers, so that a kernel, which has no others, comes to the
// same verdicts.
const (
	// unit is one failure in a bucket.
	unit = 1_000_000_000
	// perSecond is one failure per second in a rate.
	perSecond = 1_000_000
	// whole is a weight of 1.
	whole = 1 << 16
	// ms is the span in which a bucket is refilled, in ns.
	ms = 1_000_000
)

// rateEvery is the number of failures over which a rate is measured (Tang
// 2006, section 2.3.4).
const rateEvery = 100

// rate is a failure-rate record without its address: {f, t, c}.
type rate struct {
	f  uint32    // failures per second, in millionths; more than 4294 are not distinguished
	c  uint32    // failures today
	at flow.Time // of the last measurement, or of the day's first failure
}

// addFailure counts a failure (Update_Failure_Rate_Record). beta is of whole.
func (r *rate) addFailure(now flow.Time, beta uint64) {
	r.c++
	if r.c == 1 {
		r.at = now
	}
	if r.c%rateEvery != 0 {
		return
	}
	elapsed := uint64(max(1, now-r.at))
	measured := min(rateEvery*perSecond*1_000_000_000/elapsed, math.MaxUint32)
	if r.c == rateEvery {
		r.f = uint32(measured)
	} else {
		r.f = uint32((beta*uint64(r.f) + (whole-beta)*measured) / whole)
	}
	r.at = now
}

// newDay resets the count, and the rate if none was measured that day.
func (r *rate) newDay() {
	if r.c < rateEvery {
		r.f = 0
	}
	r.c = 0
}

// quota is what one bucket grants in a day.
type quota struct {
	omega  int64  // failures a day
	rate   uint64 // failures per second, as in rate
	refill int64  // the same in unit per ms, at least 1
	size   int64  // of the bucket, in unit
}

// newQuota makes a quota of n times these limits.
func newQuota(omega int, lambda, size float64, n int) quota {
	lambda *= float64(n)
	return quota{
		omega: int64(omega) * int64(n), rate: uint64(min(lambda*perSecond, 1<<40)),
		refill: int64(max(1, min(math.Round(lambda*unit/1000), 1<<60))), size: int64(min(size*unit*float64(n), 1<<61)),
	}
}

// bucket is the token bucket of the temporal limit (section 2.3.6): failures
// remove tokens, time adds them. It starts empty, so that tokens + c <= omega
// holds from the start.
type bucket struct {
	tokens int64 // in unit
	at     flow.Time
}

// admitRequest refills the bucket and reports whether a request may pass, and
// whether the rest of the day's quota is being spread. c counts the day's
// failures, used is what is taken from omega beforehand.
func (b *bucket) admitRequest(now flow.Time, c, used int64, q *quota, end flow.Time) (ok, spread bool) {
	rest := q.omega - used
	// The bucket never holds so much that it could break the day's quota.
	most := max(b.tokens, min(q.size, rest*unit/2))
	elapsed := int64(now-b.at) / ms
	gain := int64(0)
	if spread = 2*c >= rest; spread {
		if left := int64(end-b.at) / ms; left > 0 {
			need, past := max(0, (rest-c)*unit-b.tokens), min(elapsed, left)
			gain = need/left*past + need%left*past/left
		}
	} else {
		gain = q.refill * min(elapsed, q.size/q.refill+1)
	}
	b.tokens = min(b.tokens+gain, most)
	b.at += flow.Time(elapsed * ms)
	return b.tokens >= unit, spread
}
