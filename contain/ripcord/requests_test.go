//go:build linux

package ripcord

import (
	"net/netip"
	"testing"
	"time"

	"dragnet/flow"
)

// TestRequestsMakeFindings has networks ask in turn, and again.
func TestRequestsMakeFindings(t *testing.T) {
	r := newRequests(Findings{Networks: 3, Window: time.Hour})
	host := netip.MustParseAddrPort("10.7.0.1:5000")
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	ask := func(after time.Duration, peer string, pull bool) (networks uint64) {
		f, found := r.add(silenceRequest{at: start.Add(after), host: host, peer: netip.MustParseAddrPort(peer), proto: flow.UDP, pull: pull})
		if !found {
			return 0
		}
		if f.Host.Addr != host.Addr() || f.ID == "" || f.Evidence.Counts["pulls"]+f.Evidence.Counts["refusals"] != f.Evidence.Counts["networks"] {
			t.Errorf("finding %+v", f)
		}
		return f.Evidence.Counts["networks"]
	}
	for i, step := range []struct {
		after time.Duration
		peer  string
		want  uint64
	}{
		{0, "192.0.2.1:9", 0},
		{time.Minute, "192.0.2.200:9", 0}, // the same network
		{2 * time.Minute, "198.51.100.1:9", 0},
		{3 * time.Minute, "[2001:db8:1:2::1]:9", 3},
		{4 * time.Minute, "[2001:db8:1:3::1]:9", 0}, // the same /48
		{5 * time.Minute, "203.0.113.1:9", 0},       // no doubling yet
		{6 * time.Minute, "203.0.112.1:9", 0},
		{7 * time.Minute, "203.0.111.1:9", 6},
		{3 * time.Hour, "192.0.2.1:9", 0}, // all others are forgotten
		{3 * time.Hour, "198.51.100.1:9", 0},
		{3 * time.Hour, "203.0.113.1:9", 3},
	} {
		if got := ask(step.after, step.peer, i%2 == 0); got != step.want {
			t.Errorf("request %d, of %s: a finding of %d networks, want %d", i, step.peer, got, step.want)
		}
	}
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		r.add(silenceRequest{at: start.Add(3 * time.Hour), host: host, peer: netip.AddrPortFrom(a, 9)})
	}
	if len(r.networks) > maxAskers {
		t.Errorf("%d networks are remembered, want at most %d", len(r.networks), maxAskers)
	}
}
