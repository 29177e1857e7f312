package daw

import "dragnet/flow"

// clock turns the times an agent reports into times that never run back, and
// marks the start of days.
//
// Packets of several queues arrive slightly out of order; that is smoothed. A
// real step back shifts all later times, so that no measured span is lost or
// negative, and grants no second quota for the same day. A step forward over
// midnight starts a day: it cannot be distinguished from a quiet night.
type clock struct {
	midnight int64 // of a day, after 00:00 UTC
	shift    int64 // internal time minus reported time
	now      flow.Time
	day      int64     // number of the reported day
	end      flow.Time // of that day, internal
	steps    uint64    // backward steps noticed
}

// jitter is the disorder that is smoothed.
const jitter = int64(1e9)

// earliest and latest bound reported times, so that sums cannot overflow.
const (
	earliest = -int64(1) << 61
	latest   = int64(1) << 61
)

func newClock(now flow.Time, midnight int64) clock {
	told := min(max(int64(now), earliest), latest)
	c := clock{midnight: midnight, now: flow.Time(told)}
	c.beginDay(c.dayOf(told))
	return c
}

func (c *clock) dayOf(told int64) int64 {
	d := told - c.midnight
	n := d / int64(day)
	if d < 0 && d%int64(day) != 0 {
		n--
	}
	return n
}

func (c *clock) beginDay(n int64) {
	c.day = n
	c.end = flow.Time((n+1)*int64(day) + c.midnight + c.shift)
}

// prolongDay keeps the current day, and its quota, until the first midnight that
// is a day or more after its start: one may come at once, if the clock was set
// back over it.
func (c *clock) prolongDay(n int64) {
	start := c.dayStart()
	c.beginDay(n)
	if c.end-start < flow.Time(day)-flow.Time(jitter) {
		c.beginDay(n + 1)
	}
}

// dayStart is the internal time at which the current day started.
func (c *clock) dayStart() flow.Time { return c.end - flow.Time(day) }

// advance moves the clock and returns how many midnights have passed.
func (c *clock) advance(now flow.Time) (midnights int64) {
	told := min(max(int64(now), earliest), latest)
	back := int64(c.now) - (told + c.shift)
	switch {
	case back <= 0:
		c.now = flow.Time(told + c.shift)
	case back > jitter:
		c.shift += back
		c.steps++
		if n := c.dayOf(told); n <= c.day {
			c.prolongDay(n)
			return 0
		}
	}
	if c.now < c.end {
		return 0
	}
	n := c.dayOf(int64(c.now) - c.shift)
	midnights = n - c.day
	c.beginDay(n)
	return midnights
}
