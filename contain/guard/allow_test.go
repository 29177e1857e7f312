//go:build linux

package guard

import (
	"net/netip"
	"slices"
	"testing"

	"dragnet/daw"
	"dragnet/flow"
)

// TestSetAllow: a new allow list replaces the configured one, and what the station
// allows stays, also after a restart.
func TestSetAllow(t *testing.T) {
	prefix := netip.MustParsePrefix
	c := DefaultConfiguration()
	c.Station = true
	c.Scope = daw.Scope{Sources: []netip.Prefix{prefix("10.0.0.0/8")}, Ports: []uint16{80}}
	c.Allow = []netip.Prefix{prefix("10.0.0.1/32")}
	now := flow.Time(1e18)
	g, err := New(c, now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy := daw.AgentPolicy{Version: daw.MessageVersion, Allow: []netip.Prefix{prefix("10.0.0.9/32")}}
	if err := g.ApplyPolicy(now, g.MakeReport(now), policy); err != nil {
		t.Fatal(err)
	}
	if err := g.SetAllow(now, []netip.Prefix{prefix("10.0.0.2/32")}); err != nil {
		t.Fatal(err)
	}
	check := func(g *Guard, own string) {
		t.Helper()
		if want := []netip.Prefix{prefix(own), prefix("10.0.0.9/32")}; !slices.Equal(g.allow, want) {
			t.Errorf("allowed %v, want %v", g.allow, want)
		}
		if exempt := g.exemptedScope().Exempt; !slices.Contains(exempt, prefix(own)) {
			t.Errorf("%s is counted: %v", own, exempt)
		}
	}
	check(g, "10.0.0.2/32")
	dir := t.TempDir()
	if err := g.Save(dir); err != nil {
		t.Fatal(err)
	}
	c.Allow = []netip.Prefix{prefix("10.0.0.3/32")}
	g, problem, err := Load(c, now, dir, nil)
	if err != nil || problem != nil {
		t.Fatal(err, problem)
	}
	check(g, "10.0.0.3/32")
}
