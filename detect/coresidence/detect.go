package coresidence

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/detect/synchrony"
	"dragnet/flow"
)

// Configuration of the time domain.
type Configuration struct {
	// Rate is the share of the reported pairs that may be reported wrongly.
	Rate float64
	// Lags is the largest delay between two machines, in intervals.
	Lags int
	// Quiet is the number of sixty-fourths of an interval, from 1, in which a
	// machine transmits before it counts as active: less is keep-alives.
	Quiet int
}

// DefaultConfiguration allows one wrong report in a hundred.
func DefaultConfiguration() Configuration { return Configuration{Rate: 0.01, Lags: 3, Quiet: 2} }

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	switch {
	case !(c.Rate > 0 && c.Rate < 1):
		return fmt.Errorf("rate %v is not between 0 and 1", c.Rate)
	case c.Lags < 0 || c.Lags > 20:
		return fmt.Errorf("lags %d is not between 0 and 20", c.Lags)
	case c.Quiet < 1 || c.Quiet > slots:
		return fmt.Errorf("quiet %d is not between 1 and %d", c.Quiet, slots)
	}
	return nil
}

// Alarm is a machine whose transmissions are synchronised with those of one other
// machine, or of the other machines of its tenant.
type Alarm struct {
	VM     VM   `json:"vm"`
	Others []VM `json:"others"`
	// SameTenant: machines of one tenant could have used their private network.
	SameTenant bool `json:"same_tenant"`
	// ExplainedBy is a peer whose requests make the machines transmit together:
	// the victim of a test is synchronised by the master, and does nothing wrong.
	ExplainedBy *netip.Addr `json:"explained_by,omitempty"`
	// P is the chance of this without synchrony, with Hits of Onsets where
	// Expected were to be expected, at Lag intervals and Tolerance around it.
	P         float64 `json:"p"`
	Hits      int     `json:"hits"`
	Onsets    int     `json:"onsets"`
	Expected  float64 `json:"expected"`
	Lag       int     `json:"lag"`
	Tolerance int     `json:"tolerance"`
	// Rho is Pearson's correlation, as published; null for groups and constant
	// series.
	Rho *float64 `json:"rho"`
	// Intervals are the starts of those in which both became active.
	Intervals []flow.Time `json:"intervals"`

	first  int
	others []int
}

// Result is what was found, and what was looked at.
type Result struct {
	Alarms []Alarm `json:"alarms"`
	// Active of VMs machines transmitted at all; Observed of Intervals
	// intervals had any flow.
	VMs       int `json:"vms"`
	Active    int `json:"active_vms"`
	Intervals int `json:"intervals"`
	Observed  int `json:"observed_intervals"`
	// Interrupted machines are at a switch whose exports stopped for a while;
	// those intervals do not count for them.
	Interrupted int `json:"interrupted_vms"`
	// SamePairs and CrossPairs are the pairs compared, of one tenant and of two;
	// Groups the machines compared with all others of their tenant. LargeTenants
	// were too large for that. Dropped pairs passed the screen and had no room.
	SamePairs    int `json:"same_tenant_pairs"`
	CrossPairs   int `json:"cross_tenant_pairs"`
	Groups       int `json:"groups"`
	LargeTenants int `json:"large_tenants"`
	Dropped      int `json:"dropped_pairs"`
}

const (
	// allPairs is the number of machines up to which every pair has a test of
	// its own; among more, those of different tenants are screened first.
	allPairs = 500
	// largestGroup bounds the machines that are joined: the union of many is
	// always active.
	largestGroup = 8
	// screenTail and screenLimit are for the screen.
	screenTail, screenLimit = 1e-5, 1 << 18
)

// Detect compares the times of all machines. Pairs and groups of one tenant, and
// pairs of two tenants, are families of tests of their own: there are few of the
// former, and they have less reason to agree.
func Detect(ctx context.Context, a *Activity, c Configuration) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	b, err := a.bits(c.Quiet)
	if err != nil {
		return Result{}, err
	}
	null := synchrony.DefaultNull(a.Intervals)
	null.Lags = c.Lags
	d := &detection{a: a, b: b, c: c, null: null}
	d.result = Result{VMs: len(a.vms), Intervals: a.Intervals, Observed: b.Observed(), Alarms: []Alarm{}}
	counts := make([]int, len(a.vms))
	for i := range a.vms {
		if counts[i] = b.Count(i); counts[i] > 0 {
			d.result.Active++
		}
	}
	d.unknown = a.unknown(counts, b.Observed())
	for _, row := range d.unknown {
		if row != nil {
			d.result.Interrupted++
		}
	}
	same, err := d.sameTenant(ctx)
	if err != nil {
		return Result{}, err
	}
	cross, err := d.crossTenant(ctx)
	if err != nil {
		return Result{}, err
	}
	d.report(same, d.result.SamePairs+d.result.Groups)
	d.report(cross, d.result.CrossPairs)
	slices.SortStableFunc(d.result.Alarms, func(x, y Alarm) int { return cmp.Compare(x.P, y.P) })
	return d.result, nil
}

type detection struct {
	a      *Activity
	b      *synchrony.Bits
	c      Configuration
	null   synchrony.Null
	result Result

	unknown [][]uint64 // intervals of each machine of which nothing is known
}

// candidate is a pair or a group with its test.
type candidate struct {
	first  int
	others []int
	test   synchrony.Test
}

// sameTenant tests all pairs of machines of one tenant, and each of them with all
// the others.
func (d *detection) sameTenant(ctx context.Context) (all []candidate, err error) {
	tenants := map[string][]int{}
	var names []string
	for i, vm := range d.a.vms {
		if d.b.Count(i) == 0 {
			continue
		}
		if tenants[vm.Tenant] == nil {
			names = append(names, vm.Tenant)
		}
		tenants[vm.Tenant] = append(tenants[vm.Tenant], i)
	}
	for _, name := range names {
		members := tenants[name]
		if len(members) > largestGroup+1 {
			d.result.LargeTenants++
		}
		for k, i := range members {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			for _, j := range members[:k] {
				d.result.SamePairs++
				all = append(all, d.test(i, []int{j}))
			}
			if len(members) > 2 && len(members) <= largestGroup+1 {
				d.result.Groups++
				all = append(all, d.test(i, slices.DeleteFunc(slices.Clone(members), func(j int) bool { return j == i })))
			}
		}
	}
	return all, nil
}

func (d *detection) crossTenant(ctx context.Context) (all []candidate, err error) {
	n := len(d.a.vms)
	of := map[string]int{}
	for i, vm := range d.a.vms {
		if d.b.Count(i) > 0 {
			d.result.CrossPairs += activeBefore(of, vm.Tenant)
		}
	}
	if n > allPairs {
		pairs, dropped, err := synchrony.Pairs(ctx, d.b, synchrony.NewTrend(d.b, 121), synchrony.Screen{Lags: d.c.Lags, Tail: screenTail, Limit: screenLimit})
		if err != nil {
			return nil, err
		}
		d.result.Dropped = dropped
		for _, p := range pairs {
			if d.a.vms[p.First].Tenant != d.a.vms[p.Second].Tenant {
				all = append(all, d.test(p.First, []int{p.Second}))
			}
		}
		return all, ctx.Err()
	}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for j := range i {
			if d.a.vms[i].Tenant != d.a.vms[j].Tenant && d.b.Count(i) > 0 && d.b.Count(j) > 0 {
				all = append(all, d.test(i, []int{j}))
			}
		}
	}
	return all, nil
}

// activeBefore is how many machines of other tenants were counted in of, which
// holds them by tenant and in all under the empty name.
func activeBefore(of map[string]int, tenant string) int {
	n := of[""] - of[tenant]
	of[""]++
	of[tenant]++
	return n
}

// test compares machine i with others, without the traffic between them: a
// client and its server transmit at the same times.
func (d *detection) test(i int, others []int) candidate {
	x, y := d.rows(i, others, netip.Addr{})
	return candidate{i, others, d.known(i, others).TestRows(x, y, d.null)}
}

// known is the matrix without the intervals of which nothing is known of one of
// the machines.
func (d *detection) known(i int, others []int) *synchrony.Bits {
	b := d.b
	for _, j := range append([]int{i}, others...) {
		if d.unknown[j] != nil {
			b = b.Without(d.unknown[j])
		}
	}
	return b
}

// rows are the activity of i and of others joined, without what they sent to each
// other, and without what asker asked of i.
func (d *detection) rows(i int, others []int, asker netip.Addr) (x, y []uint64) {
	mine := make([]uint64, d.a.Intervals)
	copy(mine, d.a.slotsWithout(i, d.a.vms[others[0]].Address, asker))
	for _, j := range others[1:] {
		for t, v := range d.a.slotsWithout(i, d.a.vms[j].Address, asker) {
			mine[t] &= v
		}
	}
	theirs := make([]uint64, d.a.Intervals)
	for _, j := range others {
		for t, v := range d.a.slotsWithout(j, d.a.vms[i].Address, netip.Addr{}) {
			theirs[t] |= v
		}
	}
	return packRow(mine, d.c.Quiet), packRow(theirs, d.c.Quiet)
}

func (d *detection) report(all []candidate, tests int) {
	p := make([]float64, len(all))
	for k, x := range all {
		p[k] = x.test.P
	}
	for _, k := range synchrony.Discoveries(p, tests, d.c.Rate) {
		d.result.Alarms = append(d.result.Alarms, d.alarm(all[k]))
	}
}

func (d *detection) alarm(x candidate) Alarm {
	a := Alarm{
		VM: d.a.vms[x.first], P: x.test.P, Hits: x.test.Hits, Onsets: x.test.Onsets, Expected: x.test.Expected, Lag: x.test.Lag,
		Tolerance: x.test.Tolerance, first: x.first, others: x.others, Intervals: []flow.Time{},
	}
	for _, j := range x.others {
		a.Others = append(a.Others, d.a.vms[j])
	}
	a.SameTenant = a.VM.Tenant == a.Others[0].Tenant
	if len(x.others) == 1 {
		if rho, ok := synchrony.Pearson(d.a.Share(x.first), d.a.Share(x.others[0])); ok {
			a.Rho = &rho
		}
	}
	row, theirs := d.rows(x.first, x.others, netip.Addr{})
	for _, t := range d.known(x.first, x.others).OnsetsNear(row, theirs, x.test) {
		a.Intervals = append(a.Intervals, d.a.Start+flow.Time(t)*flow.Time(d.a.Length))
	}
	a.ExplainedBy = d.explain(x)
	return a
}

// innocent is the p-value from which on a pair is not synchronised without the
// requests of one peer.
const innocent = 0.01

// explain looks for a peer that asks one side for what it transmits, without
// which the two are not synchronised. A machine that asks is not excused by the
// one it asks. The peer must be a machine of the cloud, as that has tests of its
// own, or have asked both sides: else a sink outside would excuse its flooder. For
// the same reason no machine excuses another of its tenant.
func (d *detection) explain(x candidate) *netip.Addr {
	if len(x.others) > 1 {
		return nil
	}
	for _, side := range [][2]int{{x.first, x.others[0]}, {x.others[0], x.first}} {
		askers := d.a.askers(side[0])
		slices.SortFunc(askers, netip.Addr.Compare)
		for _, asker := range askers {
			vm, listed := d.a.at[asker]
			if listed && d.a.vms[vm].Tenant == d.a.vms[side[0]].Tenant {
				continue
			}
			if asker == d.a.vms[side[1]].Address || !listed && d.a.links[side[1]][link{asker, false}] == nil {
				continue
			}
			mine, theirs := d.rows(side[0], []int{side[1]}, asker)
			if d.known(side[0], side[1:]).TestRows(mine, theirs, d.null).P > innocent {
				return &asker
			}
		}
	}
	return nil
}
