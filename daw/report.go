package daw

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/flow"
)

// Counts are an edge's numbers of one day.
type Counts struct {
	// Day numbers the day, 0 being 1970-01-01.
	Day int64
	// Requests (nc) counts connections asked for and passed on, without
	// retransmissions; Successes those answered by SYN-ACK.
	Requests, Successes uint64
	// Silences is how many of the failures counted had no reply, Known how many
	// requests passed because their destination had answered recently, though a
	// limit would have dropped them.
	Silences, Known uint64
	// Verdicts counts SYN packets by verdict, Outcomes replies by outcome;
	// Outcomes[Counted] is nf.
	Verdicts [Spoofed + 1]uint64
	Outcomes [Induced + 1]uint64
}

// Failed is nf: the failures counted.
func (c *Counts) Failed() uint64 { return c.Outcomes[Counted] }

// Ratio is nf/nc, whose rise over days indicates a slow worm (Tang 2006,
// section 2.3.9); 0 on a day without requests.
func (c *Counts) Ratio() float64 {
	if c.Requests == 0 {
		return 0
	}
	return float64(c.Outcomes[Counted]) / float64(c.Requests)
}

// EdgeReport is an edge's report to its station.
type EdgeReport struct {
	Counts
	// Previous are the counts of the last day before.
	Previous Counts
	// Records counts single records of addresses and of IPv6 prefixes, Limited
	// those under the temporal or the spatial limit: the potential
	// offenders. Under the spatial limit few ever come under the other.
	Records, Limited int
	// SpatialActive says that the whole network is limited; Overwhelmed that
	// this drops most requests of its members.
	SpatialActive, Overwhelmed bool
	Members                    int
	Blocked                    int
	// ClockSteps counts how often time stepped back.
	ClockSteps uint64
}

// Report returns the counts of the day so far.
func (e *Edge) Report(now flow.Time) EdgeReport {
	t := e.advanceClock(now)
	r := EdgeReport{
		Counts: e.counts, Previous: e.previous, Records: e.countRecords(),
		SpatialActive: e.spatial.active, Overwhelmed: e.spatial.judgeLoad(t), Members: e.spatial.members, ClockSteps: e.clock.steps,
	}
	for _, tier := range e.tiers() {
		tier.records.eachRecord(func(_ uint32, rec *record) {
			if rec.hasFlag(limited | member) {
				r.Limited++
			}
		})
	}
	for _, h := range e.blocks {
		if t < h.until {
			r.Blocked++
		}
	}
	return r
}

// tiers are the tiers whose records are counted: of an address under a limit, so
// are its prefixes only once they are under one themselves.
func (e *Edge) tiers() []*tier {
	all := []*tier{&e.hosts}
	for i := range e.prefixes {
		all = append(all, &e.prefixes[i])
	}
	return all
}

func (e *Edge) countRecords() (n int) {
	for _, tier := range e.tiers() {
		n += tier.records.countLive()
	}
	return n
}

// Offender is a source with a record, for a station to judge.
type Offender struct {
	Addr netip.Addr `json:"addr"`
	// Rate is failures per second when last measured, Failures today's count,
	// Days how many days in a row before today it was at the limit.
	Rate     float64 `json:"rate"`
	Failures int     `json:"failures"`
	Days     int     `json:"days"`
	Limited  bool    `json:"limited"`
	// Silent is how many of the failures had no reply.
	Silent int `json:"silent"`
}

// Persistent is a source proposed for a block, and how long that would last.
type Persistent struct {
	Offender
	Next time.Duration `json:"next_ns"`
	// Largest says that it is proposed not for its days at the limit, but because
	// the limit of its customer network drops most requests, and it has the most
	// failures there (section 2.3.8).
	Largest bool `json:"largest,omitempty"`
}

// Why is the reason for the block, in words.
func (p *Persistent) Why() string {
	if p.Largest {
		return fmt.Sprintf("%s has the most failing connections today, %d, in a network whose limit drops most requests", p.Addr, p.Failures)
	}
	return fmt.Sprintf("%s was at its limit of failing connections on %d days in a row", p.Addr, p.Days)
}

// Largest are the n sources with the most failures today among those that the
// customer network's limit acts on.
func (e *Edge) Largest(now flow.Time, n int) []Persistent {
	var all []Persistent
	for _, o := range e.topOffenders(now, n, func(r *record) bool { return r.hasFlag(member) }, byFailures) {
		all = append(all, Persistent{Offender: o, Next: e.NextBlock(o.Addr), Largest: true})
	}
	return all
}

// byFailures orders sources by their failures today, then by rate.
func byFailures(a, b Offender) int {
	return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(b.Rate, a.Rate), a.Addr.Compare(b.Addr))
}

// Offenders are the n sources with the highest rate, then the highest count.
func (e *Edge) Offenders(now flow.Time, n int) []Offender {
	return e.topOffenders(now, n, func(*record) bool { return true }, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Failures, a.Failures), a.Addr.Compare(b.Addr))
	})
}

// ListAll gives each source a record at its first failure from now on, so that
// Busiest knows those that stay below the limits, too; or no longer.
func (e *Edge) ListAll(all bool) { e.listAll = all }

// Busiest are the n sources with the most failures today, the candidates for
// slow worms, among those with a record.
func (e *Edge) Busiest(now flow.Time, n int) []Offender {
	return e.topOffenders(now, n, func(*record) bool { return true }, byFailures)
}

// Persistent are the sources at the limit for Days days in a row that were not
// reported before: the proposals for a block.
func (e *Edge) Persistent(now flow.Time) []Persistent {
	due := func(r *record) bool {
		if int(r.days) < e.p.Days || r.hasFlag(proposed) {
			return false
		}
		r.flags |= proposed
		return true
	}
	var all []Persistent
	for _, o := range e.topOffenders(now, e.p.Records, due, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Days, a.Days), a.Addr.Compare(b.Addr))
	}) {
		all = append(all, Persistent{Offender: o, Next: e.NextBlock(o.Addr)})
	}
	return all
}

func (e *Edge) topOffenders(now flow.Time, n int, want func(*record) bool, order func(a, b Offender) int) []Offender {
	e.advanceClock(now)
	var all []Offender
	e.hosts.records.eachRecord(func(slot uint32, r *record) {
		if want(r) {
			all = append(all, Offender{
				Addr: r.key.toAddr(), Rate: float64(r.f) / perSecond, Failures: int(r.c), Days: int(r.days),
				Limited: r.hasFlag(limited | member), Silent: int(e.hosts.records.historyAt(slot).silent),
			})
		}
	})
	slices.SortFunc(all, order)
	return all[:min(n, len(all))]
}

// SetDays changes n: under a confirmed worm it is lowered.
func (e *Edge) SetDays(n int) { e.p.Days = min(max(n, 1), 200) }

// SetScope changes S and P. Sources that are no longer watched keep their
// records until midnight.
func (e *Edge) SetScope(s Scope) error {
	if err := s.Validate(); err != nil {
		return err
	}
	e.scope = s.compileScope()
	return nil
}
