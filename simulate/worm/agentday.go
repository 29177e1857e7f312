package worm

import "math"

// agentDay models what the limiter of package daw lets a network's infected
// hosts do during a day. All m hosts behave alike, so per-host counts need no
// rounding; the tests compare it with the limiter itself.
type agentDay struct {
	opened bool    // the hosts have records
	shared float64 // failures per host before that, counted by an entry of H
	count  float64 // c, failures per host today
	total  float64 // failures of the network today
	set    float64 // failures counted by the spatial limit
	active bool    // the spatial limit is on
	joined bool    // the hosts are above Tau and members of the set
	late   bool    // records were opened after the spatial limit started
	hot    bool    // a limit that counts towards blocking dropped requests
	days   float64 // hot days in a row before today
	left   float64 // of the day, seconds

	rate, lasts float64 // of the span under way
}

// measured is the number of failures after which a rate is known.
const measured = 100

// visibleRate is the rate of failures that an unlimited infected host causes
// and its edge sees.
func (c *Configuration) visibleRate() float64 { return c.externalRate() * c.Replies }

// startSpan starts a span of constant rate: it returns the failures per second
// of m hosts, and for how long.
func (a *agentDay) startSpan(c *Configuration, m float64) (rate, lasts float64) {
	perHost, until := a.hostRate(c)
	left := a.left
	rate, lasts = m*perHost, left
	spatial := c.Defence == Spatial || c.Defence == Both || c.Defence == Full
	if spatial && a.joined {
		limit, stop := c.Lambda, c.Phi/2
		if a.set >= stop {
			limit, stop = max(0, (c.Phi-a.set)/left), math.Inf(1)
		}
		a.hot = a.hot || limit < rate
		rate = min(rate, limit)
		lasts = min(lasts, timeTo(stop-a.set, rate))
	}
	if spatial && !a.active {
		lasts = min(lasts, timeTo(c.Phi-a.total, rate))
	}
	if spatial && a.active && !a.joined {
		lasts = min(lasts, timeTo(c.Tau-a.count, rate/m))
	}
	a.rate, a.lasts = rate, min(lasts, timeTo(until, rate/m))
	return a.rate, a.lasts
}

// hostRate is the rate that the temporal limit leaves each host, and the number
// of failures up to which it applies.
func (a *agentDay) hostRate(c *Configuration) (rate, until float64) {
	r := c.visibleRate()
	if c.Defence == None {
		return r, math.Inf(1)
	}
	fast := r > c.Lambda
	switch {
	case !a.opened && fast:
		return r, min(measured, c.Omega) - a.shared
	case !a.opened:
		return r, c.Omega - a.shared
	case c.Defence == Spatial:
		return r, math.Inf(1)
	case c.Defence == Basic && fast && a.count >= measured:
		return c.Lambda, math.Inf(1)
	case c.Defence == Basic:
		return r, timeTo(measured-a.count, 1)
	case a.count < min(measured, c.Omega/2):
		return r, min(measured, c.Omega/2) - a.count
	case a.count < c.Omega/2 && fast:
		return c.Lambda, c.Omega/2 - a.count
	case a.count < c.Omega/2:
		return r, c.Omega/2 - a.count
	}
	spread := max(0, (c.Omega-a.count)/a.left)
	a.hot = a.hot || spread < r
	return min(r, spread), math.Inf(1)
}

// timeTo is the time to cover a distance, 0 if it is reached already.
func timeTo(distance, rate float64) float64 {
	if distance <= 0 || rate <= 0 {
		return math.Inf(1)
	}
	return distance / rate
}

// endSpan ends the span.
func (a *agentDay) endSpan(c *Configuration, m float64) {
	const hair = 1e-6 // sums of fractions do not meet whole numbers exactly
	if a.left -= a.lasts; a.left < hair {
		next := agentDay{opened: a.opened, shared: a.shared, left: Day}
		if a.hot {
			next.days = a.days + 1
		}
		*a = next
		return
	}
	n := a.rate * a.lasts
	a.total += n
	if a.opened {
		a.count += n / m
	} else if a.shared += n / m; a.shared >= c.Omega-hair || c.visibleRate() > c.Lambda && a.shared >= measured-hair {
		a.opened, a.late = true, a.active
	}
	if a.joined {
		a.set += n
	}
	if !a.active && a.total >= c.Phi-hair {
		a.late = !a.opened
		a.active, a.opened = true, true // from now on all have records
	}
	if a.active && !a.joined && a.count >= c.Tau-hair {
		a.joined = true
		if a.late {
			a.set = m * a.count
		}
	}
}
