package daw

import (
	"math"

	"dragnet/flow"
)

// rateEvery is the number of failures over which a rate is measured (Tang
// 2006, section 2.3.4).
const rateEvery = 100

// rate is a failure-rate record without its address: {f, t, c}.
type rate struct {
	f  float32   // failures per second
	c  uint32    // failures today
	at flow.Time // of the last measurement, or of the day's first failure
}

// addFailure counts a failure (Update_Failure_Rate_Record).
func (r *rate) addFailure(now flow.Time, beta float64) {
	r.c++
	if r.c == 1 {
		r.at = now
	}
	if r.c%rateEvery != 0 {
		return
	}
	elapsed := max(1e-9, float64(now-r.at)/1e9)
	measured := rateEvery / elapsed
	if r.c == rateEvery {
		r.f = float32(measured)
	} else {
		r.f = float32(beta*float64(r.f) + (1-beta)*measured)
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
	omega  float64 // failures a day
	lambda float64 // failures per second
	size   float64 // of the bucket
}

func (q quota) scaled(n int) quota {
	return quota{q.omega * float64(n), q.lambda * float64(n), q.size * float64(n)}
}

// bucket is the token bucket of the temporal limit (section 2.3.6): failures
// remove tokens, time adds them. It starts empty, so that tokens + c <= omega
// holds from the start.
type bucket struct {
	tokens float64
	at     flow.Time
}

// admitRequest refills the bucket and reports whether a request may pass, and
// whether the rest of the day's quota is being spread. c counts the day's
// failures.
func (b *bucket) admitRequest(now flow.Time, c, used float64, q quota, end flow.Time) (ok, spread bool) {
	rest := q.omega - used
	per := q.lambda
	if spread = c >= rest/2; spread {
		left := float64(end-b.at) / 1e9
		per = max(0, (rest-c-b.tokens)/left)
		if left <= 0 {
			per = 0
		}
	}
	elapsed := float64(now-b.at) / 1e9
	// The bucket never holds so much that it could break the day's quota.
	b.tokens = min(b.tokens+elapsed*per, max(b.tokens, math.Min(q.size, rest/2)))
	b.at = now
	return b.tokens >= 1, spread
}
