package daw_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// BenchmarkThroughput runs iperf3 through a router, bare and with a guard in the kernel
// in turn, one stream of TCP. What comes per second of both ends' processor time, in
// which the router's work is done too, depends less on what else the machine does.
func BenchmarkThroughput(b *testing.B) {
	testkit.Tool(b, "iperf3")
	rates, work := map[string][]float64{}, map[string][]float64{}
	labs := map[string]*isp{}
	for _, kind := range []string{"bare", "guard"} {
		l := newISP(b)
		if l.kernel = kind == "guard"; l.kernel {
			l.mountPins()
			l.startAlone("validation: {by: the lab}\n")
		}
		server(b, l.core)
		labs[kind] = l
	}
	for b.Loop() {
		for kind, l := range labs {
			rate, per := stream(b, l.customers[0])
			rates[kind], work[kind] = append(rates[kind], rate), append(work[kind], per)
		}
	}
	for unit, all := range map[string]map[string][]float64{"Gbit/s": rates, "Gbit/cpu-s": work} {
		for kind, v := range all {
			b.ReportMetric(median(v), kind+"-"+unit)
		}
		b.ReportMetric(median(all["guard"])/median(all["bare"]), "of-bare-"+unit)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func server(b *testing.B, n *netlab.Node) {
	b.Helper()
	if _, err := n.Start("iperf3", "-s"); err != nil {
		b.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
}

// stream is one stream of two seconds, in Gbit/s and per second of processor time.
func stream(b *testing.B, from *netlab.Node) (rate, perWork float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	rate, perWork, err := from.MeasureStream(ctx, "203.0.113.10", 2*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	return rate, perWork
}
