package coresidence

import (
	"fmt"
	"math/bits"
	"net/netip"
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
	links []map[link][]uint64 // for each machine; one word of slots an interval
	seen  []bool              // intervals in which any flow was seen
	// watched says for each observer in which intervals it reported anything.
	watched map[observer][]bool
	full    [][]uint64         // what slotsWithout gives if it leaves out nothing; nil if not known
	reports []map[observer]int // for each machine, how many flows each reported
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
		a.links, a.full = append(a.links, map[link][]uint64{}), append(a.full, nil)
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
		if first < 0 || last >= flow.Time(a.Length)*flow.Time(a.Intervals) {
			a.Outside++
		}
		var listed []int
		if fromVM {
			listed = append(listed, orig)
		}
		if toVM {
			listed = append(listed, resp)
		}
		a.watch(observer{f.Exporter, f.Domain}, first, last, listed...)
		counted := f.Known.Has(flow.Counts)
		if fromVM && (!counted || f.OrigPkts > 0) {
			a.mark(orig, link{f.Resp, true}, first, last)
		}
		if toVM && (!counted || f.RespPkts > 0) {
			a.mark(resp, link{f.Orig, false}, first, last)
		}
	}
}

// mark sets the slots from first to last.
func (a *Activity) mark(vm int, l link, first, last flow.Time) {
	length := flow.Time(a.Length)
	if last < first || last < 0 || first >= length*flow.Time(a.Intervals) {
		return
	}
	first, last = max(0, first), min(last, length*flow.Time(a.Intervals)-1)
	a.full[vm] = nil
	row := a.links[vm][l]
	if row == nil {
		if len(a.links[vm]) >= maxLinks {
			l = link{originated: l.originated}
			row = a.links[vm][l]
		}
		if row == nil {
			row = make([]uint64, a.Intervals)
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
		row[t] |= mask
		a.seen[t] = true
	}
}

// Share is r(t) of machine i: the part of each interval in which it transmitted
// (section 3.3).
func (a *Activity) Share(i int) []float64 {
	r := make([]float64, a.Intervals)
	for t, v := range a.slotsWithout(i, netip.Addr{}, netip.Addr{}) {
		r[t] = float64(bits.OnesCount64(v)) / slots
	}
	return r
}

// slotsWithout is when machine i transmitted, but for its traffic with peer, and
// for what asker asked it for; either may be invalid for none. The caller does not
// change it: most machines have nothing to do with each other, and share one row.
func (a *Activity) slotsWithout(i int, peer, asker netip.Addr) []uint64 {
	with := func(l link) bool { return l.peer.IsValid() && a.links[i][l] != nil }
	if !with(link{peer, true}) && !with(link{peer, false}) && !with(link{asker, false}) {
		if a.full[i] == nil {
			a.full[i] = a.joinLinks(i, netip.Addr{}, netip.Addr{})
		}
		return a.full[i]
	}
	return a.joinLinks(i, peer, asker)
}

func (a *Activity) joinLinks(i int, peer, asker netip.Addr) []uint64 {
	all := make([]uint64, a.Intervals)
	for l, row := range a.links[i] {
		if peer.IsValid() && l.peer == peer || asker.IsValid() && l.peer == asker && !l.originated {
			continue
		}
		for t, v := range row {
			all[t] |= v
		}
	}
	return all
}

// askers are the peers that asked machine i for something, but for those kept
// together.
func (a *Activity) askers(i int) (all []netip.Addr) {
	for l := range a.links[i] {
		if !l.originated && l.peer.IsValid() {
			all = append(all, l.peer)
		}
	}
	return all
}

// bits is the activity of every machine: intervals in which it transmitted in at
// least quiet slots. Intervals in which no flow was seen at all are missing.
func (a *Activity) bits(quiet int) (*synchrony.Bits, error) {
	b, err := synchrony.NewBits(len(a.vms), a.Intervals)
	if err != nil {
		return nil, err
	}
	for t, seen := range a.seen {
		if !seen {
			b.Miss(t)
		}
	}
	for i := range a.vms {
		for t, v := range a.slotsWithout(i, netip.Addr{}, netip.Addr{}) {
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
