// Package station is DAW's management station (Tang 2006, sections 2.3.3 and
// 2.3.9): it collects the reports of the agents, detects a worm by the number of
// new offenders or by a rise of the daily share of failures, and proposes sources
// to block. It never decides.
//
// The text alarms on a steady increase of the offenders. Their number rises every
// day from midnight on, when limits start again, and falls never before the next;
// so what is counted is sources that were never offenders before, compared with
// the same hour of earlier days.
//
// It is pure: time comes with the reports.
package station

import (
	"cmp"
	"math"
	"slices"
	"time"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/conf"
)

// Configuration of a station.
type Configuration struct {
	// Rises is the number of periods with new offenders that an alarm takes at
	// least: many at once are an outage rather than a worm.
	Rises int `yaml:"rises"`
	// Chance is how improbable the number of new offenders must be for an alarm, in
	// each of three spans of 5, 15 and 60 periods.
	Chance float64 `yaml:"chance"`
	// Learn is how long offenders are only learnt, after the first report ever: at
	// first, all are new.
	Learn time.Duration `yaml:"learn"`
	// First is the share of the day's new offenders proposed first; it doubles each
	// period until no more come.
	First float64 `yaml:"first"`
	// Period is how often new offenders are counted.
	Period time.Duration `yaml:"period"`
	// Silent is how long an agent may send no report before its numbers no
	// longer count.
	Silent time.Duration `yaml:"silent"`
	// Days is the number of days that the trend test covers, and that new offenders
	// are compared with.
	Days int `yaml:"days"`
	// Level is the significance level of the trend test.
	Level float64 `yaml:"level"`
}

// DefaultConfiguration examines each minute, as the paper does.
func DefaultConfiguration() Configuration {
	return Configuration{Rises: 3, Chance: 1e-6, Learn: 24 * time.Hour, First: 0.05, Period: time.Minute, Silent: 5 * time.Minute, Days: 14, Level: 0.01}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Rises >= 1 && c.Rises <= 1000, "rises", "is %d; want 1 to 1000 periods", c.Rises)
	p.Check(c.Chance > 0 && c.Chance < 0.1, "chance", "is %g; want above 0 and below 0.1", c.Chance)
	p.Check(c.Learn >= 0 && c.Learn <= 30*24*time.Hour, "learn", "is %v; want 0 to 720h", c.Learn)
	p.Check(c.First > 0 && c.First <= 1, "first", "is %g; want above 0 and at most 1 (1 = all offenders)", c.First)
	p.Check(c.Period >= time.Second && c.Period <= time.Hour, "period", "is %v; want 1s to 1h", c.Period)
	p.Check(c.Silent >= c.Period, "silent", "is %v; want at least period, %v", c.Silent, c.Period)
	p.Check(c.Days >= 5 && c.Days <= 1000, "days", "is %d; want 5 to 1000 days", c.Days)
	p.Check(c.Level > 0 && c.Level < 1, "level", "is %g; want between 0 and 1", c.Level)
	return p.Join()
}

// Station is a management station. It is not safe for concurrent use.
type Station struct {
	c      Configuration
	agents map[string]*agent
	next   flow.Time
	last   int               // offenders at the last call of Look
	share  float64           // proposed now, 0 outside an alarm
	days   map[int64]dayPart // sums of finished days
	added  map[string]int64  // the last day that was added of each agent

	arrivals
	// Inconsistent counts reports that contradict themselves.
	Inconsistent uint64
}

type agent struct {
	heard     flow.Time
	limited   int
	offenders []daw.Offender
}

type dayPart struct{ failures, requests float64 }

// New makes a station.
func New(c Configuration) *Station {
	return &Station{c: c, agents: map[string]*agent{}, days: map[int64]dayPart{}, added: map[string]int64{}, arrivals: newArrivals()}
}

// Report adds an agent's report with its offenders, the worst first. It returns
// false, and ignores the report, if it contradicts itself.
func (s *Station) Report(now flow.Time, name string, r daw.EdgeReport, offenders []daw.Offender) bool {
	if !isConsistent(&r, offenders) {
		s.Inconsistent++
		return false
	}
	a := s.agents[name]
	if a == nil {
		a = &agent{}
		s.agents[name] = a
	}
	a.heard, a.limited, a.offenders = now, r.Limited, offenders
	s.startLearning(now)
	if last, known := s.added[name]; r.Previous.Requests > 0 && (!known || r.Previous.Day > last) {
		p := r.Previous
		s.added[name] = p.Day
		d := s.days[p.Day]
		d.failures += float64(p.Outcomes[daw.Counted])
		d.requests += float64(p.Requests)
		s.days[p.Day] = d
		s.dropDay(p.Day)
	}
	return true
}

// isConsistent rejects counts that no agent can have: more outcomes than
// requests, or rates that are not numbers.
func isConsistent(r *daw.EdgeReport, offenders []daw.Offender) bool {
	for _, c := range []daw.Counts{r.Counts, r.Previous} {
		// Replies may belong to requests of the day before.
		if c.Outcomes[daw.Counted] > 2*c.Requests+1000 {
			return false
		}
	}
	if r.Limited < 0 || r.Limited > r.Records {
		return false
	}
	return !slices.ContainsFunc(offenders, func(o daw.Offender) bool {
		return !o.Addr.IsValid() || math.IsNaN(o.Rate) || o.Rate < 0 || o.Failures < 0
	})
}

func (s *Station) dropDay(day int64) {
	for d := range s.days {
		if d < day-int64(2*s.c.Days) {
			delete(s.days, d)
		}
	}
}

// Look returns the offenders to propose for a block, the worst first, and none
// outside an alarm. Call it at least once per period. Silent agents are left
// out.
func (s *Station) Look(now flow.Time) []daw.Offender {
	if now < s.next {
		return nil
	}
	s.next = now + flow.Time(s.c.Period)
	s.last = 0
	var all []daw.Offender
	for _, a := range s.agents {
		if now-a.heard <= flow.Time(s.c.Silent) {
			s.last += a.limited
			all = append(all, a.offenders...)
		}
	}
	s.addArrivals(now, all, s.c.Days)
	if !s.judgeArrivals(now, &s.c) {
		s.share = 0
		return nil
	}
	all = slices.DeleteFunc(all, func(o daw.Offender) bool { return !o.Limited || !s.isNew(now, o.Addr) })
	if len(all) == 0 {
		return nil
	}
	if s.share == 0 {
		s.share = s.c.First
	} else {
		s.share = min(1, 2*s.share)
	}
	slices.SortFunc(all, func(a, b daw.Offender) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Failures, a.Failures), a.Addr.Compare(b.Addr))
	})
	return all[:min(len(all), int(math.Ceil(s.share*float64(len(all)))))]
}

// Alarm reports whether more new offenders came lately than chance explains.
func (s *Station) Alarm() bool { return s.alarm != 0 }

// Learning reports until when offenders are only learnt; 0 if they no longer are.
func (s *Station) Learning(now flow.Time) (until flow.Time) {
	if until = s.started + flow.Time(s.c.Learn); s.started == 0 || now >= until {
		return 0
	}
	return until
}

// Offenders is their number at the last call of Look.
func (s *Station) Offenders() int { return s.last }

// Silent lists agents without a report for longer than Configuration.Silent, of those
// that have reported to this Station.
func (s *Station) Silent(now flow.Time) []string {
	var names []string
	for name, a := range s.agents {
		if now-a.heard > flow.Time(s.c.Silent) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Trend reports whether sum(nf)/sum(nc) of the last days rises, the sign of a
// slow worm. It is the one-sided test of Mann and Kendall, which compares every
// pair of days, and so is robust against a single outlier.
func (s *Station) Trend() (rising bool, p float64, ratios []float64) {
	var days []int64
	for d := range s.days {
		days = append(days, d)
	}
	slices.Sort(days)
	for _, d := range days[max(0, len(days)-s.c.Days):] {
		ratios = append(ratios, s.days[d].failures/s.days[d].requests)
	}
	p = mannKendall(ratios)
	return p < s.c.Level, p, ratios
}

// mannKendall is the probability of at least as clear a rise by chance (normal
// approximation with continuity correction); 1 for fewer than 5 values.
func mannKendall(v []float64) float64 {
	n := float64(len(v))
	if n < 5 {
		return 1
	}
	sum := 0.0
	for i := range v {
		for j := i + 1; j < len(v); j++ {
			sum += float64(cmp.Compare(v[j], v[i]))
		}
	}
	if sum <= 0 {
		return 1
	}
	z := (sum - 1) / math.Sqrt(n*(n-1)*(2*n+5)/18)
	return math.Erfc(z/math.Sqrt2) / 2
}
