package coresidence

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"dragnet/detect/synchrony"
	"dragnet/flow"
)

// slots is the number of parts of an interval in which a machine transmits or
// not; overlapping flows of one machine count once.
const slots = 64

// maxLinks bounds the peers of one machine that are kept apart; the others are
// kept together.
const maxLinks = 256

// link is the traffic of a machine with one peer, apart by who asked for it.
type link struct {
	peer       netip.Addr // invalid for those kept together
	originated bool
}

// mark is what a machine did in one interval: the slots in which it transmitted.
type mark struct {
	at    int // counted from the first interval that was ever covered
	slots uint64
}

// track is the marks of one link in order of time. Most machines are silent most
// of the time, which takes no room.
type track []mark

func (k *track) addSlots(at int, slots uint64) {
	i := len(*k)
	if i > 0 && (*k)[i-1].at >= at { // most marks come in order
		var found bool
		i, found = slices.BinarySearchFunc(*k, at, func(m mark, at int) int { return m.at - at })
		if found {
			(*k)[i].slots |= slots
			return
		}
	}
	*k = slices.Insert(*k, i, mark{at, slots})
}

// Activity is when each machine transmitted over the external network, in
// intervals of equal length. It takes flows in any order and is for one
// goroutine.
type Activity struct {
	// Intervals of Length begin at Start.
	Start     flow.Time
	Length    time.Duration
	Intervals int

	vms   []VM
	at    map[netip.Addr]int
	links []map[link]*track // for each machine
	seen  []bool            // intervals in which any flow was seen
	// watched says for each observer in which intervals it reported anything.
	watched map[observer][]bool
	full    [][]uint64         // what slotsWithout gives if it leaves out nothing; nil if not known
	reports []map[observer]int // for each machine, how many flows each reported
	first   int                // intervals that Advance has left behind
	ahead   int                // intervals after the last that are kept for Advance
	// Flows and Outside count flows that concern a machine, and those of them
	// that lie outside the intervals in part or whole.
	Flows, Outside uint64
}

// NewActivity makes one in which nothing was seen.
func NewActivity(vms []VM, start flow.Time, length time.Duration, intervals int) (*Activity, error) {
	switch {
	case len(vms) == 0:
		return nil, fmt.Errorf("no machines are listed")
	case length < slots*time.Microsecond || length > 24*time.Hour:
		return nil, fmt.Errorf("an interval of %s is not between %s and a day", length, slots*time.Microsecond)
	case intervals < 1 || intervals > 1<<16:
		return nil, fmt.Errorf("%d intervals are not between 1 and %d", intervals, 1<<16)
	}
	a := &Activity{Start: start, Length: length, Intervals: intervals, vms: vms, at: map[netip.Addr]int{}, seen: make([]bool, intervals), watched: map[observer][]bool{}}
	for i, vm := range vms {
		a.at[vm.Address] = i
		a.links, a.full = append(a.links, map[link]*track{}), append(a.full, nil)
		a.reports = append(a.reports, map[observer]int{})
	}
	return a, nil
}

// Add counts flows. A side of which no packet was seen did not transmit.
func (a *Activity) Add(flows []flow.Flow) {
	for i := range flows {
		f := &flows[i]
		orig, fromVM := a.at[f.Orig]
		resp, toVM := a.at[f.Resp]
		if !fromVM && !toVM {
			continue
		}
		a.Flows++
		first, last := f.Start-a.Start, f.End()-a.Start
		if f.Duration < 0 || f.End() < f.Start || (f.Start < a.Start) != (first < 0) || (f.End() < a.Start) != (last < 0) {
			a.Outside++ // no such time: it ends before it begins, or overflows
			continue
		}
		if first < 0 || last >= flow.Time(a.Length)*flow.Time(a.coveredIntervals()) {
			a.Outside++
		}
		var listed []int
		if fromVM {
			listed = append(listed, orig)
		}
		if toVM {
			listed = append(listed, resp)
		}
		a.noteObserved(observer{f.Exporter, f.Domain}, first, last, listed...)
		counted := f.Known.Has(flow.Counts)
		if fromVM && (!counted || f.OrigPkts > 0) {
			a.markSlots(orig, link{f.Resp, true}, first, last)
		}
		if toVM && (!counted || f.RespPkts > 0) {
			a.markSlots(resp, link{f.Orig, false}, first, last)
		}
	}
}

// coveredIntervals returns the number of intervals of which anything is kept.
func (a *Activity) coveredIntervals() int { return a.Intervals + a.ahead }

// markSlots sets the slots from first to last. What is shorter than a slot counts as one,
// also where it crosses into the next: else a quarter of the keep-alives of 4 ms would
// be as long as two.
func (a *Activity) markSlots(vm int, l link, first, last flow.Time) {
	length := flow.Time(a.Length)
	if last < first || last < 0 || first >= length*flow.Time(a.coveredIntervals()) {
		return
	}
	first, last = max(0, first), min(last, length*flow.Time(a.coveredIntervals())-1)
	if last-first < length/slots {
		last = first
	}
	a.full[vm] = nil
	row := a.links[vm][l]
	if row == nil {
		if len(a.links[vm]) >= maxLinks {
			l = link{originated: l.originated}
			row = a.links[vm][l]
		}
		if row == nil {
			row = new(track)
			a.links[vm][l] = row
		}
	}
	slot := func(t flow.Time) int { return int(t % length * slots / length) }
	for t := first / length; t <= last/length; t++ {
		mask := ^uint64(0)
		if t == first/length {
			mask &= ^uint64(0) << slot(first)
		}
		if t == last/length {
			mask &= ^uint64(0) >> (slots - 1 - slot(last))
		}
		row.addSlots(a.first+int(t), mask)
		a.seen[t] = true
	}
}

// Share is r(t) of machine i: the part of each interval in which it transmitted
// (section 3.3).
func (a *Activity) Share(i int) []float64 {
	r := make([]float64, a.Intervals)
	for t, v := range a.slotsWithout(i, nil, netip.Addr{}) {
		r[t] = float64(bits.OnesCount64(v)) / slots
	}
	return r
}

// slotsWithout is when machine i transmitted, but for its traffic with peers, and
// for what asker asked it for, which may be invalid for none. The caller does not
// change it: most machines have nothing to do with each other, and share one row.
func (a *Activity) slotsWithout(i int, peers []netip.Addr, asker netip.Addr) []uint64 {
	has := func(l link) bool { return a.links[i][l] != nil }
	if !slices.ContainsFunc(peers, func(p netip.Addr) bool { return has(link{p, true}) || has(link{p, false}) }) && !(asker.IsValid() && has(link{asker, false})) {
		if a.full[i] == nil {
			a.full[i] = a.joinLinks(i, nil, netip.Addr{})
		}
		return a.full[i]
	}
	return a.joinLinks(i, peers, asker)
}

func (a *Activity) joinLinks(i int, peers []netip.Addr, asker netip.Addr) []uint64 {
	all := make([]uint64, a.Intervals)
	for l, row := range a.links[i] {
		if l.peer.IsValid() && (slices.Contains(peers, l.peer) || l.peer == asker && !l.originated) {
			continue
		}
		for _, m := range *row {
			if t := m.at - a.first; t < len(all) {
				all[t] |= m.slots
			}
		}
	}
	return all
}

// findAskers returns the peers that asked machine i for something, but for those kept
// together.
func (a *Activity) findAskers(i int) (all []netip.Addr) {
	for l := range a.links[i] {
		if !l.originated && l.peer.IsValid() {
			all = append(all, l.peer)
		}
	}
	return all
}

// activeBits returns the activity of every machine: intervals in which it transmitted in at
// least quiet slots. Intervals in which no flow was seen at all are missing.
func (a *Activity) activeBits(quiet int) (*synchrony.Bits, error) {
	b, err := synchrony.NewBits(len(a.vms), a.Intervals)
	if err != nil {
		return nil, err
	}
	for t, seen := range a.seen[:a.Intervals] {
		if !seen {
			b.Miss(t)
		}
	}
	for i := range a.vms {
		for t, v := range a.joinLinks(i, nil, netip.Addr{}) {
			if bits.OnesCount64(v) >= quiet {
				b.Activate(i, t)
			}
		}
	}
	return b, nil
}

// packRow is slots as a row of bits.
func packRow(row []uint64, quiet int) []uint64 {
	out := make([]uint64, (len(row)+63)/64)
	for t, v := range row {
		if bits.OnesCount64(v) >= quiet {
			out[t/64] |= 1 << (t % 64)
		}
	}
	return out
}

// ShareOf is Share of a machine that is listed, else nil.
func (a *Activity) ShareOf(vm VM) []float64 {
	i, ok := a.at[vm.Address]
	if !ok {
		return nil
	}
	return a.Share(i)
}
