package coresidence

import (
	"cmp"
	"net/netip"
	"slices"

	"dragnet/flow"
)

// observer is a switch that exports flows, or the log they came from.
type observer struct {
	exporter netip.Addr
	domain   uint32
}

// maxObservers bounds the switches that are told apart; spoofed exports could name
// any number.
const maxObservers = 1 << 14

// noteObserved notes that an observer reported something of machines in the intervals
// from first to last.
func (a *Activity) noteObserved(o observer, first, last flow.Time, machines ...int) {
	length := flow.Time(a.Length)
	if last < first || last < 0 || first >= length*flow.Time(a.coveredIntervals()) {
		return
	}
	seen := a.watched[o]
	if seen == nil {
		if len(a.watched) >= maxObservers {
			return
		}
		seen = make([]bool, a.coveredIntervals())
		a.watched[o] = seen
	}
	for t := max(0, first) / length; t <= min(last/length, flow.Time(a.coveredIntervals()-1)); t++ {
		seen[t] = true
	}
	for _, i := range machines {
		a.reports[i][o]++
	}
}

// homeObserver returns the observer that reported most of machine i's flows; of equals the
// first address and domain.
func (a *Activity) homeObserver(i int) (home observer, ok bool) {
	for o, n := range a.reports[i] {
		best := a.reports[i][home]
		if !ok || n > best || n == best && cmp.Or(o.exporter.Compare(home.exporter), cmp.Compare(o.domain, home.domain)) < 0 {
			home, ok = o, true
		}
	}
	return home, ok
}

// silence is the share of intervals below which an observer's silence is not
// chance.
const silence = 0.01

// unknownIntervals marks for each machine the intervals in which the switch it is at
// exported nothing, though with as many busy machines it should have: it had
// restarted, or its exports were lost. Its machines would seem to begin together
// when it is back. It is nil for a machine without such intervals.
func (a *Activity) unknownIntervals(active []int, observed int) [][]uint64 {
	members := map[observer][]int{}
	for i := range a.vms {
		if o, ok := a.homeObserver(i); ok {
			members[o] = append(members[o], i)
		}
	}
	all := make([][]uint64, len(a.vms))
	for o, vms := range members {
		expected := 1.0 // share of intervals in which all are silent by chance
		for _, i := range vms {
			expected *= 1 - float64(active[i])/float64(max(1, observed))
		}
		if expected > silence {
			continue
		}
		row, any := make([]uint64, (a.Intervals+63)/64), false
		for t, seen := range a.watchedWithin(o) {
			if !seen && a.seen[t] {
				row[t/64] |= 1 << (t % 64)
				any = true
			}
		}
		for _, i := range vms {
			if any {
				all[i] = row
			}
		}
	}
	return all
}

// watchedWithin says in which intervals an observer reported anything.
func (a *Activity) watchedWithin(o observer) []bool {
	if seen := a.watched[o]; seen != nil {
		return seen[:a.Intervals]
	}
	return nil
}

// Unique leaves out what a second switch exported of the same flow: of each pair of
// ends with its ports, the observer that counted the most packets is kept. The
// order stays.
func Unique(flows []flow.Flow) []flow.Flow {
	type ends struct {
		a, b         netip.Addr
		portA, portB uint16
		proto        flow.Proto
	}
	keyOf := func(f *flow.Flow) ends {
		if c := cmp.Or(f.Orig.Compare(f.Resp), cmp.Compare(f.OrigPort, f.RespPort)); c > 0 {
			return ends{f.Resp, f.Orig, f.RespPort, f.OrigPort, f.Proto}
		}
		return ends{f.Orig, f.Resp, f.OrigPort, f.RespPort, f.Proto}
	}
	counts := map[ends]map[observer]uint64{}
	for i := range flows {
		f, k := &flows[i], keyOf(&flows[i])
		if counts[k] == nil {
			counts[k] = map[observer]uint64{}
		}
		counts[k][observer{f.Exporter, f.Domain}] += f.OrigPkts + f.RespPkts
	}
	best := map[ends]observer{}
	for k, by := range counts {
		var all []observer
		for o := range by {
			all = append(all, o)
		}
		best[k] = slices.MinFunc(all, func(x, y observer) int {
			return cmp.Or(cmp.Compare(by[y], by[x]), x.exporter.Compare(y.exporter), cmp.Compare(x.domain, y.domain))
		})
	}
	return slices.DeleteFunc(slices.Clone(flows), func(f flow.Flow) bool {
		return best[keyOf(&f)] != observer{f.Exporter, f.Domain}
	})
}
