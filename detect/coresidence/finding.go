package coresidence

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

const (
	// maxPeers and maxTimes bound what one finding lists.
	maxPeers, maxTimes = 32, 256
)

// Describe says which detector speaks, and for whom.
type Describe struct {
	// Detector and Kind are those of the findings.
	Detector, Kind string
	// Observer is the name of the site.
	Observer string
	// Exempt machines are never judged.
	Exempt []netip.Prefix
}

// Findings are the alarms that nothing explains, one finding a machine: of a
// machine compared with all others of its tenant about that one only. A finding
// keeps its identifier for the UTC day in which its evidence begins.
func (d Describe) Findings(r Result) []dossier.Finding {
	by := map[VM]*dossier.Finding{}
	add := func(vm VM, others []VM, a *Alarm) {
		if !flow.Within(d.Exempt, vm.Address) {
			d.extendFinding(by, vm, others, a)
		}
	}
	for i := range r.Alarms {
		a := &r.Alarms[i]
		if a.ExplainedBy != nil || len(a.Intervals) == 0 {
			continue
		}
		some := append([]VM{a.VM}, a.With...)
		for _, vm := range some {
			add(vm, a.Others, a)
		}
		if len(a.Others) == 1 || len(some) > 1 {
			for _, vm := range a.Others {
				add(vm, some, a)
			}
		}
	}
	vms := slices.SortedFunc(maps.Keys(by), func(x, y VM) int { return x.Address.Compare(y.Address) })
	var all []dossier.Finding
	for _, vm := range vms {
		f := by[vm]
		f.Summary = d.writeSummary(vm, f)
		day := *f
		day.First -= f.First % flow.Time(24*time.Hour)
		day.Identify(vm.Tenant)
		f.Version, f.ID = day.Version, day.ID
		all = append(all, *f)
	}
	return all
}

// extendFinding adds an alarm to the finding about one of its machines; the alarm with
// the smallest p-value gives the counts.
func (d Describe) extendFinding(by map[VM]*dossier.Finding, vm VM, others []VM, a *Alarm) {
	f := by[vm]
	if f == nil {
		f = &dossier.Finding{
			Detector: d.Detector, Kind: d.Kind, Host: flow.HostAt(vm.Address, d.Observer), First: a.Intervals[0], Last: a.Intervals[0],
			Evidence: dossier.Evidence{Flows: []dossier.FlowEvidence{}, P: &a.P},
		}
		by[vm] = f
	}
	e := &f.Evidence
	if e.Counts == nil || a.P < *e.P {
		p := a.P
		e.P = &p
		e.Counts = map[string]uint64{"onsets": uint64(a.Onsets), "hits": uint64(a.Hits)}
		e.Thresholds = map[string]float64{"hits": a.Expected}
	}
	for _, o := range others {
		if !slices.Contains(e.Peers, o.Address) && len(e.Peers) < maxPeers {
			e.Peers = append(e.Peers, o.Address)
		}
	}
	e.Times = slices.Compact(slices.SortedFunc(slices.Values(append(e.Times, a.Intervals...)), cmp.Compare[flow.Time]))
	f.First, f.Last = e.Times[0], e.Times[len(e.Times)-1]
	if len(e.Times) > maxTimes {
		e.Times = e.Times[len(e.Times)-maxTimes:]
	}
}

func (d Describe) writeSummary(vm VM, f *dossier.Finding) string {
	who := vm.Address.String()
	if vm.Name != "" {
		who += " (" + vm.Name + ")"
	}
	if vm.Tenant != vm.Address.String() {
		who += " of tenant " + vm.Tenant
	}
	with := f.Evidence.Peers[0].String() + " does"
	if n := len(f.Evidence.Peers) - 1; n > 0 {
		with = fmt.Sprintf("%s and %d more do", f.Evidence.Peers[0], n)
	}
	c := f.Evidence.Counts
	return fmt.Sprintf("%s begins to transmit when %s: %d of %d times, %.1f were to be expected (p = %.2g)", who, with, c["hits"], c["onsets"], f.Evidence.Thresholds["hits"], *f.Evidence.P)
}
