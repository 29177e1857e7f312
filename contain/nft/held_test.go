package nft

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"dragnet/dossier"
)

// A held source opens nothing to the ports named, and the kernel lets it go.
func TestHeldSourcesAreHeldForAMoment(t *testing.T) {
	s := newStreet(t)
	if err := s.r.Ports([]uint16{7}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ target, server string }{{client4 + "/32", server4}, {client6 + "/128", server6}, {"fd00:1::/64", server6}, {"fd00:1::/56", server6}, {"fd00:1::/48", server6}} {
		target := netip.MustParsePrefix(c.target)
		if err := s.r.Hold([]Hold{{target, 2 * time.Second}}); err != nil {
			t.Fatal(err)
		}
		held, err := s.r.Held()
		if err != nil || len(held) != 1 || held[0].Target != target || held[0].For <= 0 || held[0].For > 2*time.Second {
			t.Errorf("%s: held %v, %v", target, held, err)
		}
		if _, err := dial(t, s.client, c.server); err == nil {
			t.Errorf("%s: a held source opened a connection", target)
		}
		opened := false
		for range 10 {
			if _, err := dial(t, s.client, c.server); err == nil {
				opened = true
				break
			}
		}
		if !opened {
			t.Errorf("%s: still held long after", target)
		}
	}
}

func TestHeldOnlyForThePortsNamed(t *testing.T) {
	s := newStreet(t)
	if err := s.r.Ports([]uint16{80, 443}); err != nil {
		t.Fatal(err)
	}
	if err := s.r.Hold([]Hold{{netip.MustParsePrefix(client4 + "/32"), time.Minute}}); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s.client, server4); err != nil {
		t.Errorf("port 7 is not among those named: %v", err)
	}
	all := make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	if err := s.r.Ports(all); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s.client, server4); err == nil {
		t.Error("all ports are named, and it opened a connection")
	}
}

// To let go names one, or all; blocks by decisions are another matter.
func TestReleaseLeavesBlocks(t *testing.T) {
	s := newStreet(t)
	one, other := netip.MustParsePrefix("10.1.0.77/32"), netip.MustParsePrefix("fd00:9::/64")
	if err := s.r.Hold([]Hold{{one, time.Minute}, {other, time.Minute}, {one, time.Minute}}); err != nil {
		t.Fatal(err)
	}
	receipts, err := s.r.Apply(now(), []dossier.Decision{blocking(client4+"/32", time.Minute)})
	if err != nil || !receipts[0].Applied {
		t.Fatalf("%+v, %v", receipts, err)
	}
	if err := s.r.Release(one, netip.MustParsePrefix("10.1.0.78/32")); err != nil {
		t.Fatal(err)
	}
	if held, err := s.r.Held(); err != nil || len(held) != 1 || held[0].Target != other {
		t.Errorf("held %v, %v; want %s", held, err, other)
	}
	if err := s.r.Release(); err != nil {
		t.Fatal(err)
	}
	if held, err := s.r.Held(); err != nil || len(held) != 0 {
		t.Errorf("held %v, %v; want none", held, err)
	}
	if _, err := dial(t, s.client, server4); err == nil {
		t.Error("the block went with the holds")
	}
}

func TestHoldMistakes(t *testing.T) {
	s := newStreet(t)
	for _, bad := range []string{"10.0.0.0/24", "fd00::/40", "0.0.0.0/0"} {
		if err := s.r.Hold([]Hold{{netip.MustParsePrefix(bad), time.Second}}); err == nil {
			t.Errorf("%s is held", bad)
		}
	}
}

// A prefix and one within it are held at a time.
func TestNestedPrefixesAreHeld(t *testing.T) {
	s := newStreet(t)
	for _, p := range []string{"fd00:1::/64", "fd00:1::/48", "fd00:1::/56"} {
		if err := s.r.Hold([]Hold{{netip.MustParsePrefix(p), time.Minute}}); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := s.r.Held(); err != nil || len(held) != 3 {
		t.Errorf("held %v, %v; want three", held, err)
	}
}

// A held source reaches the services that answered lately, until they no longer do.
func TestHeldSourcesReachServicesThatAnswered(t *testing.T) {
	s := newStreet(t)
	if err := s.r.Ports([]uint16{7}); err != nil {
		t.Fatal(err)
	}
	services := []netip.AddrPort{netip.MustParseAddrPort(server4 + ":7"), netip.MustParseAddrPort("[" + server6 + "]:7")}
	for i := range 1000 { // more than one message holds
		services = append(services, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 80))
	}
	check := func(when string, want bool) {
		t.Helper()
		for _, to := range []string{server4, server6} {
			if _, err := dial(t, s.client, to); (err == nil) != want {
				t.Errorf("%s: %s: %v", when, to, err)
			}
		}
	}
	if err := s.r.Hold([]Hold{{netip.MustParsePrefix(client4 + "/32"), time.Minute}, {netip.MustParsePrefix(client6 + "/128"), time.Minute}}); err != nil {
		t.Fatal(err)
	}
	check("held", false)
	if err := s.r.Services(services, nil); err != nil {
		t.Fatal(err)
	}
	check("known", true)
	if err := s.r.Services([]netip.AddrPort{netip.MustParseAddrPort(server4 + ":8")}, services); err != nil {
		t.Fatal(err)
	}
	check("failed", false)
	if err := s.r.Services(services, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.r.ClearServices(); err != nil {
		t.Fatal(err)
	}
	check("cleared", false)
	// A block leaves no way out.
	if _, err := s.r.Apply(now(), []dossier.Decision{blocking(client4+"/32", time.Minute), blocking(client6+"/128", time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if err := s.r.Services(services, nil); err != nil {
		t.Fatal(err)
	}
	check("blocked", false)
}

// The table of an earlier version is made again.
func TestOldTableIsReplaced(t *testing.T) {
	s := newStreet(t)
	if _, err := s.router.Run(t.Context(), "nft", "add table inet dragnet; add chain inet dragnet forward { type filter hook forward priority 0; policy drop; }"); err != nil {
		t.Fatal(err)
	}
	if err := s.r.Services([]netip.AddrPort{netip.MustParseAddrPort(server4 + ":7")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s.client, server4); err != nil {
		t.Errorf("the old table still acts: %v", err)
	}
}

// As many sources, services and blocks as a guard may have fit in one call each.
func TestManyAtOnce(t *testing.T) {
	s := newStreet(t)
	const many = 1 << 14
	holds, services := make([]Hold, many), make([]netip.AddrPort, many)
	bindings := make([]Binding, many)
	for i := range holds {
		a := netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i)})
		holds[i] = Hold{netip.PrefixFrom(a, 32), time.Hour}
		bindings[i] = Binding{netip.PrefixFrom(a, 32), net.HardwareAddr{2, 0, 0, 0, 0, 9}}
		services[i%len(services)] = netip.AddrPortFrom(a, 443)
	}
	if err := s.r.Hold(holds); err != nil {
		t.Fatal(err)
	}
	if held, err := s.r.Held(); err != nil || len(held) != many {
		t.Errorf("%d of %d are held, %v", len(held), many, err)
	}
	if err := s.r.Services(services, nil); err != nil {
		t.Error(err)
	}
	if err := s.r.SetIngress(&Ingress{Interface: "left", Bindings: bindings}); err != nil {
		t.Error(err)
	}
	decisions := make([]dossier.Decision, 2000)
	for i := range decisions {
		decisions[i] = blocking(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), 32).String(), time.Hour)
	}
	s.applyAll(t, decisions)
}
