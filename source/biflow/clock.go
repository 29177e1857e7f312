package biflow

import (
	"time"

	"dragnet/flow"
)

// oldest bounds how long ago a conversation may have started: what exporters count
// in milliseconds since their start wraps after 49.7 days, and is taken as
// before or after by halves.
const oldest = 25 * 24 * flow.Time(time.Hour)

// maxBackwards is how far our own clock may be set back without notice. Beyond
// it, time restarts.
const maxBackwards = flow.Time(time.Minute)

// correctTimes moves the times of a record whose exporter's clock is wrong by more
// than MaxSkew, and of one that contradicts that clock. It returns by how much
// they were wrong, 0 if they were not.
func (j *Joiner) correctTimes(now flow.Time, r *Record) (skew time.Duration) {
	most := flow.Time(j.config.MaxSkew)
	if most == 0 {
		return 0
	}
	// Times of a record that are near themselves are believed against the clock of
	// its datagram: nfreplay gives records their own times, and a clock of a day ago.
	near := r.End() >= now-most && r.End() <= now+most
	if off := r.Sent - now; r.Sent != 0 && !near && (off > most || off < -most) {
		skew = time.Duration(off)
		r.Start -= off
	}
	if r.Start <= now+most && r.Start >= now-oldest {
		return skew
	}
	if skew == 0 {
		skew = time.Duration(r.Start - now)
	}
	// How long it lasted is as little to be believed as when it began.
	r.Start, r.Duration = now, 0
	r.Known &^= flow.Lasting
	return skew
}
