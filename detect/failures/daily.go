package failures

import (
	"net/netip"
	"time"

	"dragnet/flow"
)

// Daily collects the figures of Table 2-1: failures of the hosts of a network
// per day, a destination counting once.
type Daily struct {
	networks []netip.Prefix
	days     map[hostDay]*targets
	hosts    map[netip.Addr]struct{}
	dates    map[int64]struct{}
}

type hostDay struct {
	host netip.Addr
	day  int64
}

// NewDaily counts the hosts of the given networks.
func NewDaily(networks []netip.Prefix) *Daily {
	return &Daily{networks: networks, days: map[hostDay]*targets{}, hosts: map[netip.Addr]struct{}{}, dates: map[int64]struct{}{}}
}

// Add counts flows. Silence does not count as a failure here: the paper counts
// replies.
func (d *Daily) Add(flows []flow.Flow) {
	for i := range flows {
		f := &flows[i]
		s := SignalOf(f)
		if s == Nothing || !flow.Within(d.networks, f.Orig) {
			continue
		}
		day := int64(f.Start) / int64(24*time.Hour)
		d.hosts[f.Orig], d.dates[day] = struct{}{}, struct{}{}
		if s != Refusal {
			continue
		}
		key := hostDay{f.Orig, day}
		t := d.days[key]
		if t == nil {
			t = &targets{}
			d.days[key] = t
		}
		t.addTarget(hostTarget(f.Resp))
	}
}

// Figures are a row of Table 2-1.
type Figures struct {
	Hosts, Days int
	// Average is per host and day, Worst the highest of one host on one day,
	// Network the highest of all hosts together on one day.
	Average float64
	Worst   int
	Network int
}

// Figures returns the totals; hosts are those that tried a connection.
func (d *Daily) Figures() Figures {
	f := Figures{Hosts: len(d.hosts), Days: len(d.dates)}
	perDay, total := map[int64]int{}, 0
	for key, t := range d.days {
		f.Worst = max(f.Worst, t.n)
		perDay[key.day] += t.n
		total += t.n
	}
	for _, n := range perDay {
		f.Network = max(f.Network, n)
	}
	if f.Hosts > 0 {
		f.Average = float64(total) / float64(f.Hosts) / float64(f.Days)
	}
	return f
}
