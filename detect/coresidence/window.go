package coresidence

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/flow"
)

// NewWindow is NewActivity for a window that Advance moves along: of ahead
// intervals after the last, what is added is kept until the window is there.
func NewWindow(vms []VM, start flow.Time, length time.Duration, intervals, ahead int) (*Activity, error) {
	if ahead < 0 || ahead > 1<<16 {
		return nil, fmt.Errorf("%d intervals ahead are not between 0 and %d", ahead, 1<<16)
	}
	a, err := NewActivity(vms, start, length, intervals)
	if err != nil {
		return nil, err
	}
	a.ahead = ahead
	a.seen = make([]bool, a.coveredIntervals())
	return a, nil
}

// Advance moves the window so that it begins with the interval that holds start,
// and forgets what was before. It never moves back.
func (a *Activity) Advance(start flow.Time) {
	if start < a.Start+flow.Time(a.Length) {
		return
	}
	n := int((start - a.Start) / flow.Time(a.Length))
	a.Start += flow.Time(n) * flow.Time(a.Length)
	a.first += n
	a.seen = shiftRow(a.seen, n)
	for o, seen := range a.watched {
		if a.watched[o] = shiftRow(seen, n); !anyOf(a.watched[o]) {
			delete(a.watched, o)
		}
	}
	for i := range a.vms {
		a.full[i] = nil
		for l, row := range a.links[i] {
			gone := 0
			for gone < len(*row) && (*row)[gone].at < a.first {
				gone++
			}
			if *row = append((*row)[:0], (*row)[gone:]...); len(*row) == 0 {
				delete(a.links[i], l)
			}
		}
		for o := range a.reports[i] {
			if a.watched[o] == nil {
				delete(a.reports[i], o)
			}
		}
	}
}

// shiftRow drops the first n and appends as many that are false.
func shiftRow(row []bool, n int) []bool {
	if n = min(n, len(row)); n > 0 {
		clear(row[copy(row, row[n:]):])
	}
	return row
}

func anyOf(row []bool) bool {
	for _, v := range row {
		if v {
			return true
		}
	}
	return false
}

// SetMachines replaces the list. What is known of a machine stays if its address
// and tenant do; an address that another tenant has now begins as if silent.
func (a *Activity) SetMachines(vms []VM) error {
	if len(vms) == 0 || len(vms) > maxVMs {
		return fmt.Errorf("%d machines are not between 1 and %d", len(vms), maxVMs)
	}
	old := *a
	a.vms, a.at, a.links, a.full, a.reports = vms, map[netip.Addr]int{}, nil, nil, nil
	for i, vm := range vms {
		links, reports, full := map[link]*track{}, map[observer]int{}, []uint64(nil)
		if j, ok := old.at[vm.Address]; ok && old.vms[j].Tenant == vm.Tenant {
			links, reports, full = old.links[j], old.reports[j], old.full[j]
		}
		a.at[vm.Address] = i
		a.links, a.full, a.reports = append(a.links, links), append(a.full, full), append(a.reports, reports)
	}
	return nil
}

// Silent lists the machines of which nothing was seen within the window.
func (a *Activity) Silent() map[netip.Addr]bool {
	silent := map[netip.Addr]bool{}
	for i, vm := range a.vms {
		if len(a.links[i]) == 0 {
			silent[vm.Address] = true
		}
	}
	return silent
}
