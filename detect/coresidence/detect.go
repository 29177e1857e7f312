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
// machine, or of the other machines of its tenant; or several machines of a tenant
// that together are with others of it, as masters and flooders that take turns.
type Alarm struct {
	VM VM `json:"vm"`
	// With are machines that count together with VM.
	With   []VM `json:"with,omitempty"`
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
}

// Machines are all that the alarm names.
func (a *Alarm) Machines() []VM { return slices.Concat([]VM{a.VM}, a.With, a.Others) }

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
	// Groups the machines compared with all others of their tenant, and the tenants
	// of which every split in two was compared. LargeTenants were too large for
	// either. Dropped pairs passed the screen and had no room.
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
// pairs of two tenants, are separate families of tests: there are few of the
// former, and they have less reason to agree.
func Detect(ctx context.Context, a *Activity, c Configuration) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	b, err := a.activeBits(c.Quiet)
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
	d.unknown = a.unknownIntervals(counts, b.Observed())
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
	d.reportAlarms(same, d.result.SamePairs+d.result.Groups)
	d.reportAlarms(cross, d.result.CrossPairs)
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

// candidate is two sets of machines with their test.
type candidate struct {
	some, others []int
	test         synchrony.Test
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
				all = append(all, d.compareSets([]int{i}, []int{j}))
			}
			if len(members) > 2 && len(members) <= largestGroup+1 {
				d.result.Groups++
				all = append(all, d.compareSets([]int{i}, slices.DeleteFunc(slices.Clone(members), func(j int) bool { return j == i })))
			}
		}
		if len(members) >= smallestSplit && len(members) <= largestGroup+1 {
			d.result.Groups++
			all = append(all, d.splitTenant(members))
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
				all = append(all, d.compareSets([]int{p.First}, []int{p.Second}))
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
				all = append(all, d.compareSets([]int{i}, []int{j}))
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

// compareSets compares some machines with others, without the traffic between them: a
// client and its server transmit at the same times.
func (d *detection) compareSets(some, others []int) candidate {
	x, y := d.joinedRows(some, others, netip.Addr{})
	return candidate{some, others, d.knownIntervals(some, others).TestRows(x, y, d.null)}
}

// knownIntervals returns the matrix without the intervals of which nothing is known of one of
// the machines.
func (d *detection) knownIntervals(some, others []int) *synchrony.Bits {
	b := d.b
	for _, j := range slices.Concat(some, others) {
		if d.unknown[j] != nil {
			b = b.Without(d.unknown[j])
		}
	}
	return b
}

// joinedRows returns the activity of both sets of machines, each joined, without what they
// sent to each other, and without what asker asked of some.
func (d *detection) joinedRows(some, others []int, asker netip.Addr) (x, y []uint64) {
	return d.joinActivity(some, others, asker), d.joinActivity(others, some, netip.Addr{})
}

func (d *detection) joinActivity(vms, without []int, asker netip.Addr) []uint64 {
	peers := make([]netip.Addr, len(without))
	for k, j := range without {
		peers[k] = d.a.vms[j].Address
	}
	if len(vms) == 1 {
		return packRow(d.a.slotsWithout(vms[0], peers, asker), d.c.Quiet)
	}
	all := make([]uint64, d.a.Intervals)
	for _, i := range vms {
		for t, v := range d.a.slotsWithout(i, peers, asker) {
			all[t] |= v
		}
	}
	return packRow(all, d.c.Quiet)
}

func (d *detection) reportAlarms(all []candidate, tests int) {
	p := make([]float64, len(all))
	for k, x := range all {
		p[k] = x.test.P
	}
	found := synchrony.Discoveries(p, tests, d.c.Rate)
	slices.SortStableFunc(found, func(i, j int) int { return cmp.Compare(p[i], p[j]) })
	reported := map[string]bool{}
	for _, k := range found {
		// The best split of a tenant may be one machine and all others, as tested before.
		if sets := all[k].setsKey(); !reported[sets] {
			reported[sets] = true
			d.result.Alarms = append(d.result.Alarms, d.makeAlarm(all[k]))
		}
	}
}

// setsKey identifies the two sets of machines, in any order.
func (x *candidate) setsKey() string {
	a, b := fmt.Sprint(slices.Sorted(slices.Values(x.some))), fmt.Sprint(slices.Sorted(slices.Values(x.others)))
	return min(a, b) + max(a, b)
}

func (d *detection) makeAlarm(x candidate) Alarm {
	a := Alarm{
		VM: d.a.vms[x.some[0]], P: x.test.P, Hits: x.test.Hits, Onsets: x.test.Onsets, Expected: x.test.Expected, Lag: x.test.Lag,
		Tolerance: x.test.Tolerance, Intervals: []flow.Time{},
	}
	for _, i := range x.some[1:] {
		a.With = append(a.With, d.a.vms[i])
	}
	for _, j := range x.others {
		a.Others = append(a.Others, d.a.vms[j])
	}
	a.SameTenant = a.VM.Tenant == a.Others[0].Tenant
	if len(x.some) == 1 && len(x.others) == 1 {
		if rho, ok := synchrony.Pearson(d.a.Share(x.some[0]), d.a.Share(x.others[0])); ok {
			a.Rho = &rho
		}
	}
	row, theirs := d.joinedRows(x.some, x.others, netip.Addr{})
	for _, t := range d.knownIntervals(x.some, x.others).OnsetsNear(row, theirs, x.test, d.null) {
		a.Intervals = append(a.Intervals, d.a.Start+flow.Time(t)*flow.Time(d.a.Length))
	}
	a.ExplainedBy = d.findExplanation(x)
	return a
}

// innocent is the p-value from which on a pair is not synchronised without the
// requests of one peer.
const innocent = 0.01

// findExplanation looks for a peer that asks one side for what it transmits, without
// which the two are not synchronised. A machine that asks is not excused by the
// one it asks. The peer must be a machine of the cloud, as that has tests of its
// own, or have asked both sides: else a sink outside would excuse its flooder. For
// the same reason no machine excuses another of its tenant.
func (d *detection) findExplanation(x candidate) *netip.Addr {
	if len(x.some) == 1 && len(x.others) > 1 {
		return nil // the others' pairs have separate tests
	}
	for _, sides := range [][2][]int{{x.some, x.others}, {x.others, x.some}} {
		for _, asker := range d.findAskers(sides[0]) {
			if !d.mayExplain(asker, sides[0], sides[1]) {
				continue
			}
			mine, theirs := d.joinedRows(sides[0], sides[1], asker)
			if d.knownIntervals(sides[0], sides[1]).TestRows(mine, theirs, d.null).P > innocent {
				return &asker
			}
		}
	}
	return nil
}

func (d *detection) findAskers(vms []int) (all []netip.Addr) {
	for _, i := range vms {
		all = append(all, d.a.findAskers(i)...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func (d *detection) mayExplain(asker netip.Addr, side, others []int) bool {
	vm, listed := d.a.at[asker]
	if listed {
		return d.a.vms[vm].Tenant != d.a.vms[side[0]].Tenant && !slices.Contains(others, vm)
	}
	return slices.ContainsFunc(others, func(j int) bool { return d.a.links[j][link{asker, false}] != nil })
}
