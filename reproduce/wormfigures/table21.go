package wormfigures

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"

	"dragnet/detect/failures"
	"dragnet/flow"
	"dragnet/internal/plot"
	"dragnet/node/ingest"
	"dragnet/reproduce/report"
)

// published21 is Table 2-1: failures per host and day on average, of the worst
// host, and of the whole network a day.
var published21 = []struct {
	name           string
	average        float64
	worst, network int
}{{"domain 1 (five /24)", 3.0, 43, 824}, {"domain 2 (one /24)", 10.1, 41, 116}, {"domain 3 (two /24)", 3.11, 63, 106}}

// private are the networks whose hosts count as "ours" in shared logs.
var private = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}

func table21(x *reproduction) error {
	t := report.Table{Title: "Failures of normal hosts", Header: []string{"network", "hosts", "days", "per host and day", "worst host", "whole network a day"}}
	bars := plot.Series{Kind: plot.Bars}
	var names []string
	add := func(name, hosts, days string, average float64, worst, network int) {
		t.Rows = append(t.Rows, []string{name, hosts, days, formatNumber(average), fmt.Sprint(worst), fmt.Sprint(network)})
		bars.X, bars.Y, names = append(bars.X, float64(len(names))), append(bars.Y, float64(worst)), append(names, name)
	}
	for _, p := range published21 {
		add("paper: "+p.name, "-", "-", p.average, p.worst, p.network)
	}
	if x.env.Data == "" {
		x.Say("No shared logs are available (--data or $DRAGNET_DATA), so only the paper's numbers are shown.")
	}
	for _, log := range []string{"zeek-logs/proxy_rolling", "benign", "ndpi"} {
		if x.env.Data == "" {
			break
		}
		f, err := x.readDaily(filepath.Join(x.env.Data, filepath.FromSlash(log)))
		if err != nil {
			return err
		}
		add("ours: "+log, fmt.Sprint(f.Hosts), fmt.Sprint(f.Days), f.Average, f.Worst, f.Network)
	}
	x.Tables = []report.Table{t}
	x.Plots = []report.Plot{{Name: x.Name, Title: x.Title, Drawings: []plot.Drawing{plot.Chart{Title: "Worst host's failures a day", X: plot.Axis{Label: "network", Names: names}, Y: plot.Axis{Label: "failures"}, Series: []plot.Series{bars}}}}}
	x.Say("There is no closed form and nothing to simulate here: the table is a measurement. Ours counts, per host with a private address and per day, the destinations that refused it (RST to the SYN, or an ICMP error that quotes it), each once a day as the list of recent failures does. The shared logs are one quiet office and small captures, so they can only show that normal hosts stay far below Omega = 300.")
	return nil
}

func (x *reproduction) readDaily(path string) (failures.Figures, error) {
	d := failures.NewDaily(private)
	log, err := ingest.Open(path)
	if err != nil {
		return failures.Figures{}, err
	}
	var mu sync.Mutex // batches come from several goroutines
	_, err = log.Scan(x.ctx, flow.AllTime, flow.Failures, func(flows []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		d.Add(flows)
		x.env.Progress("reading flows", len(flows))
		return nil
	})
	return d.Figures(), err
}
