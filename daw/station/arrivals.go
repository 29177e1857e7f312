package station

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"time"

	"gonum.org/v1/gonum/mathext"

	"dragnet/daw"
	"dragnet/flow"
)

// arrivals count sources that become offenders for the first time.
type arrivals struct {
	started flow.Time                // of the first report; 0 before it
	hours   map[int64]int            // new offenders by hour since 1970
	known   map[netip.Addr]flow.Time // offenders, with when they were last listed
	first   map[netip.Addr]flow.Time // those of the last day, with when they came
	queue   []flow.Time              // when they came, for the longest span
	alarm   time.Duration            // the shortest span that shows it; 0 without an alarm
}

func newArrivals() arrivals {
	return arrivals{hours: map[int64]int{}, known: map[netip.Addr]flow.Time{}, first: map[netip.Addr]flow.Time{}}
}

const (
	hour = flow.Time(time.Hour)
	// memory is how long a source that is no longer an offender is known as one.
	memory = 30 * 24 * hour
	// fresh is how long an offender counts as a new one.
	fresh = 24 * hour
	// maxKnown bounds the sources that are known.
	maxKnown = 1 << 18
	// fewest is the number of new offenders an hour that is expected at least: a
	// network without history is not one where none ever comes.
	fewest = 0.25
)

// spans are those over which arrivals are counted, in periods: a fast worm shows in
// the shortest, a slower one in the longest.
var spans = [...]int{5, 15, 60}

// startLearning marks the first report ever, with offenders or without.
func (a *arrivals) startLearning(now flow.Time) {
	if a.started == 0 {
		a.started = now
	}
}

// addBounded sets m[addr]; a full map first forgets any other, which is counted
// again if it comes again.
func addBounded(m map[netip.Addr]flow.Time, addr netip.Addr, now flow.Time) {
	if _, ok := m[addr]; !ok && len(m) >= maxKnown {
		for other := range m {
			delete(m, other)
			break
		}
	}
	m[addr] = now
}

func (a *arrivals) addArrivals(now flow.Time, all []daw.Offender, days int) {
	a.forget(now, days)
	for _, o := range all {
		if !o.Limited {
			continue
		}
		if _, ok := a.known[o.Addr]; !ok {
			a.hours[int64(now/hour)]++
			addBounded(a.first, o.Addr, now)
			a.queue = append(a.queue, now)
		}
		addBounded(a.known, o.Addr, now)
	}
}

// forget drops what is too old, hours when they are compared with no longer; the maps
// are walked once an hour.
func (a *arrivals) forget(now flow.Time, days int) {
	if h := int64(now / hour); a.hours[h] == 0 {
		if _, walked := a.hours[h]; !walked {
			a.hours[h] = 0
			for k := range a.hours {
				if k < h-24*int64(days)-1 {
					delete(a.hours, k)
				}
			}
			for addr, at := range a.known {
				if now-at > memory {
					delete(a.known, addr)
				}
			}
			for addr, at := range a.first {
				if now-at > fresh {
					delete(a.first, addr)
				}
			}
		}
	}
}

// isNew reports whether a source became an offender within the last day.
func (a *arrivals) isNew(now flow.Time, addr netip.Addr) bool {
	at, ok := a.first[addr]
	return ok && now-at <= fresh
}

// judgeArrivals reports whether there is an alarm. It ends once no new offender
// came for a third of the span that shows it.
func (a *arrivals) judgeArrivals(now flow.Time, c *Configuration) bool {
	for len(a.queue) > 0 && now-a.queue[0] > flow.Time(spans[len(spans)-1])*flow.Time(c.Period) {
		a.queue = a.queue[1:]
	}
	if a.started == 0 || now < a.started+flow.Time(c.Learn) {
		a.alarm = 0
		return false
	}
	latest := flow.MinTime
	if n := len(a.queue); n > 0 {
		latest = a.queue[n-1]
	}
	if a.alarm != 0 && now-latest > flow.Time(a.alarm)/3 {
		a.alarm = 0
	}
	if latest != now { // none came in this period
		return a.alarm != 0
	}
	for _, periods := range spans {
		span := time.Duration(periods) * c.Period
		n, times := a.countSince(now - flow.Time(span))
		expected := a.expectedPerHour(now, c) * span.Hours()
		if times >= c.Rises && poissonTail(n, expected) < c.Chance {
			a.alarm = span
			break
		}
	}
	return a.alarm != 0
}

// countSince counts the arrivals after a time, and the periods in which they came.
func (a *arrivals) countSince(since flow.Time) (n, periods int) {
	before := flow.MinTime
	for i := len(a.queue) - 1; i >= 0 && a.queue[i] > since; i-- {
		if n++; a.queue[i] != before {
			periods++
			before = a.queue[i]
		}
	}
	return n, periods
}

// expectedPerHour is the number of new offenders at this hour of earlier days, with
// an hour before and after: mean and two standard deviations. Days of learning, when
// all were new, count only while there are no others.
func (a *arrivals) expectedPerHour(now flow.Time, c *Configuration) float64 {
	this := int64(now / hour)
	n, sum, squares := 0.0, 0.0, 0.0
	for d := int64(1); d <= int64(c.Days); d++ {
		h := this - 24*d
		if h < int64(a.started/hour) || n > 0 && h < int64((a.started+flow.Time(c.Learn))/hour) {
			break
		}
		v := float64(max(a.hours[h-1], a.hours[h], a.hours[h+1]))
		n, sum, squares = n+1, sum+v, squares+v*v
	}
	if n == 0 {
		return fewest
	}
	mean := sum / n
	return max(fewest, mean+2*math.Sqrt(max(mean, squares/n-mean*mean)))
}

// poissonTail is the probability of n or more events where expected is their mean number.
func poissonTail(n int, expected float64) float64 {
	if n == 0 {
		return 1
	}
	return mathext.GammaIncReg(float64(n), expected)
}

// savedStation is what a station knows of offenders, on disk.
type savedStation struct {
	Version int                      `json:"version"`
	Started flow.Time                `json:"started"`
	Hours   map[int64]int            `json:"hours"`
	Known   map[netip.Addr]flow.Time `json:"known"`
	First   map[netip.Addr]flow.Time `json:"first"`
	Days    map[int64][2]float64     `json:"days"`
	// Agents is the last day that was added of each agent.
	Agents map[string]int64 `json:"agents"`
}

const savedVersion = 1

// Save encodes what the station has learnt: a restart must not take old offenders
// for new ones.
func (s *Station) Save() ([]byte, error) {
	days := map[int64][2]float64{}
	for d, p := range s.days {
		days[d] = [2]float64{p.failures, p.requests}
	}
	return json.Marshal(savedStation{savedVersion, s.started, s.hours, s.known, s.first, days, s.added})
}

// Load takes over what an earlier station saved. On an error the station is
// unchanged.
func (s *Station) Load(b []byte) error {
	var v savedStation
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("saved station: %w", err)
	}
	if v.Version != savedVersion || len(v.Known) > maxKnown || len(v.First) > maxKnown || v.Started < 0 {
		return fmt.Errorf("saved station: of version %d, or out of bounds", v.Version)
	}
	a := newArrivals()
	a.started = v.Started
	for h, n := range v.Hours {
		a.hours[h] = max(0, n)
	}
	maps.Copy(a.known, v.Known)
	maps.Copy(a.first, v.First)
	s.arrivals = a
	for d, p := range v.Days {
		if p[1] > 0 && p[0] >= 0 {
			s.days[d] = dayPart{p[0], p[1]}
		}
	}
	maps.Copy(s.added, v.Agents)
	return nil
}
