package daw_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"dragnet/internal/testkit"
)

// scanAs sends scans of a source, each to another target from the n-th on.
func (a *attacker) scanAs(source string, from, n int) {
	for i := range n {
		a.send(a.sender.MAC, ends{source, target(from + i), uint16(10_000 + from + i), 80}, layers.TCP{Seq: uint32(from + i), SYN: true})
		time.Sleep(pace)
	}
	time.Sleep(500 * time.Millisecond)
}

// A guard that is killed leaves limits that hold, or packets that pass, as configured;
// the next one goes on with the day's counters.
func TestKilledGuardInTheKernel(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	for _, stay := range []bool{true, false} {
		t.Run(fmt.Sprintf("stay %v", stay), func(t *testing.T) {
			l := newKernelISP(t)
			a := l.startAlone(fmt.Sprintf("validation: {by: the lab}\nkernel: {interfaces: [inside], pins: %s/bpf/edge1, stay: %v}\n", l.dir, stay))
			arrived := l.watchCore("10.1.0.10")
			a.scanAs("10.1.0.10", 0, 600)
			if n := arrived.Load(); n > 2*omega+l.slip(0) || n == 0 {
				t.Fatalf("%d of 600 scans passed", n)
			}
			if err := syscall.Kill(l.guards[0].Pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
			before := arrived.Load()
			a.scanAs("10.1.0.10", 1000, 300)
			switch n := arrived.Load() - before; {
			case stay && n > 20:
				t.Errorf("%d of 300 scans passed without the guard, and limits are to stay", n)
			case !stay && n < 290:
				t.Errorf("%d of 300 scans passed without the guard, and all are to pass", n)
			}
			l.visit(0, 30)
			l.startGuard(0)
			if out := l.guards[0].Output(); !strings.Contains(out, "go on with the counters in the kernel") {
				t.Errorf("the counters are not taken over: %s", out)
			}
			before = arrived.Load()
			a.scanAs("10.1.0.10", 2000, 300)
			if n := arrived.Load() - before; n > 20 {
				t.Errorf("%d of 300 scans passed after the restart", n)
			}
			// A clean end removes the programs.
			if err := l.guards[0].Stop(); err != nil {
				t.Fatal(err)
			}
			before = arrived.Load()
			a.scanAs("10.1.0.10", 3000, 100)
			if n := arrived.Load() - before; n < 95 {
				t.Errorf("%d of 100 scans passed after the end", n)
			}
			// The tables are gone, as after a reboot, and the counters were saved.
			l.startGuard(0)
			before = arrived.Load()
			a.scanAs("10.1.0.10", 4000, 300)
			if n := arrived.Load() - before; n > 20 {
				t.Errorf("%d of 300 scans passed with the counters that were saved", n)
			}
		})
	}
}

// Two interfaces toward one customer network share the counters.
func TestInterfacesShareCounters(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newKernelISP(t)
	prefix := netip.MustParsePrefix
	err := errors.Join(l.net.Wire(l.customers[0], "eth1", l.edges[0], "inside2"), l.edges[0].Address("inside2", prefix("10.3.0.1/24")),
		l.customers[0].Address("eth1", prefix("10.3.0.2/24")), l.edges[0].Sysctl("net.ipv4.conf.all.rp_filter", "0"), l.edges[0].Sysctl("net.ipv4.conf.inside2.rp_filter", "0"))
	if err != nil {
		t.Fatal(err)
	}
	a := l.startAlone(fmt.Sprintf("validation: {by: the lab}\nkernel: {interfaces: [inside, inside2], pins: %s/bpf/edge1}\n", l.dir))
	b := l.openAttacker("eth1", "inside2")
	arrived := l.watchCore("10.1.0.10")
	for n := range 400 {
		by := a
		if n%2 == 1 {
			by = b
		}
		by.send(by.sender.MAC, ends{"10.1.0.10", target(n), uint16(10_000 + n), 80}, layers.TCP{Seq: uint32(n), SYN: true})
		time.Sleep(pace)
	}
	time.Sleep(time.Second)
	if n := arrived.Load(); n > 2*omega+l.slip(0) || n == 0 {
		t.Errorf("%d of 400 scans by two interfaces passed, want at most 2*omega", n)
	}
}

// A bridge, where nftables' table sees nothing, holds a scanner back as well.
func TestBridgeInTheKernel(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newKernelISP(t)
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	nodes, err := l.net.Nodes("client", "bridge", "server")
	if err != nil {
		t.Fatal(err)
	}
	client, bridge, server := nodes[0], nodes[1], nodes[2]
	err = errors.Join(l.net.Wire(client, "eth0", bridge, "left"), l.net.Wire(bridge, "right", server, "eth0"),
		client.Address("eth0", prefix("10.1.0.10/24")), client.Address("eth0", prefix("10.1.0.20/24")),
		server.Address("eth0", prefix("10.1.0.1/24")), server.Address("lo", prefix("203.0.113.10/32")), client.Route(prefix("0.0.0.0/0"), addr("10.1.0.1")))
	for _, args := range [][]string{{"link", "add", "br0", "type", "bridge"}, {"link", "set", "left", "master", "br0"}, {"link", "set", "right", "master", "br0"}, {"link", "set", "br0", "up"}} {
		if err == nil {
			_, err = bridge.Run(t.Context(), "ip", args...)
		}
	}
	if err == nil {
		_, err = server.Run(t.Context(), "ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo")
	}
	if err != nil {
		t.Fatal(err)
	}
	l.customers[0], l.edges[0], l.core, l.outside = client, bridge, server, server
	l.serve()
	l.write("edge1.yaml", l.aloneConfig(1, "left", "validation: {by: the lab}\n"))
	l.startGuard(0)
	dial := func(source, to string, within time.Duration) error {
		return client.Do(func() error {
			d := net.Dialer{Timeout: within, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
			c, err := d.Dial("tcp4", to)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	passed, scans := 0, 2*omega+40
	for n := range scans {
		if errors.Is(dial("10.1.0.10", target(n)+":80", 300*time.Millisecond), syscall.ECONNREFUSED) {
			passed++
		}
	}
	if passed > 2*omega+int(l.slip(0)) || passed < 10 {
		t.Errorf("%d of %d scans passed the bridge, want at most 2*omega", passed, scans)
	}
	for range 5 {
		if err := dial("10.1.0.20", "203.0.113.10:80", 5*time.Second); err != nil {
			t.Errorf("another host is hindered: %v", err)
		}
	}
}

// A source that was at its limit all day is blocked once the day is over, for every
// port, and the block ends by itself.
func TestPersistentSourceIsBlockedInTheKernel(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newKernelISP(t)
	midnight := time.Now().Add(12 * time.Second).Truncate(time.Second)
	of := midnight.UTC().Sub(midnight.UTC().Truncate(24 * time.Hour)).Round(time.Second)
	config := l.aloneConfig(1, "inside", "validation: {by: the lab}\n")
	l.write("edge1.yaml", strings.Replace(config, "phi: 0,", fmt.Sprintf("phi: 0, days: 1, first_block: 6s, midnight: %v,", of), 1))
	l.startGuard(0)
	a := l.openAttacker("eth0", "inside")
	arrived := l.watchCore("10.1.0.10")
	for n := 0; time.Now().Before(midnight); n++ {
		a.send(a.sender.MAC, ends{"10.1.0.10", target(n), uint16(10_000 + n), 80}, layers.TCP{Seq: uint32(n), SYN: true})
		time.Sleep(pace)
	}
	// So late in the day the rest of the quota comes fast, and more is on its way.
	if n := arrived.Load(); n > 2*omega+60 || n == 0 {
		t.Errorf("%d scans passed before midnight", n)
	}
	l.await(5*time.Second, "the block is recorded", func() bool {
		return strings.Contains(l.guards[0].Output(), "msg=block ") || strings.Contains(l.guards[0].Output(), `"msg":"block"`)
	})
	mail := func(n int) {
		a.send(a.sender.MAC, ends{"10.1.0.10", "203.0.113.10", uint16(20_000 + n), 25}, layers.TCP{Seq: uint32(n), SYN: true})
		time.Sleep(20 * time.Millisecond)
	}
	before := arrived.Load()
	for n := range 50 {
		mail(n)
	}
	if n := arrived.Load() - before; n != 0 {
		t.Errorf("%d of 50 requests of a blocked source passed", n)
	}
	l.visit(0, 30)
	l.await(10*time.Second, "the block ends", func() bool {
		before := arrived.Load()
		mail(1000)
		time.Sleep(50 * time.Millisecond)
		return arrived.Load() > before
	})
	if strings.Contains(l.guards[0].Output(), "level=ERROR") {
		t.Error(l.guards[0].Output())
	}
}

// An interface that goes and is made again, as those of sessions are, has limits again.
func TestInterfaceIsMadeAgain(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newKernelISP(t)
	a := l.startAlone("validation: {by: the lab}\n")
	arrived := l.watchCore("10.1.0.10")
	a.scanAs("10.1.0.10", 0, 300)
	if n := arrived.Load(); n > 2*omega+l.slip(0) || n == 0 {
		t.Fatalf("%d of 300 scans passed", n)
	}
	if _, err := l.edges[0].Run(t.Context(), "ip", "link", "del", "inside"); err != nil {
		t.Fatal(err)
	}
	l.await(5*time.Second, "the guard says that the interface is gone", func() bool { return strings.Contains(l.guards[0].Output(), "an interface is gone") })
	prefix := netip.MustParsePrefix
	err := errors.Join(l.net.Wire(l.customers[0], "eth0", l.edges[0], "inside"), l.edges[0].Address("inside", prefix("10.1.0.1/24")),
		l.customers[0].Address("eth0", prefix("10.1.0.10/24")), l.customers[0].Address("eth0", prefix("10.1.0.30/24")), l.customers[0].Route(prefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	l.await(5*time.Second, "the guard acts on the new interface", func() bool { return strings.Count(l.guards[0].Output(), "the interfaces have changed") == 2 })
	a = l.openAttacker("eth0", "inside")
	before := arrived.Load()
	a.scanAs("10.1.0.10", 1000, 300)
	if n := arrived.Load() - before; n > 20 {
		t.Errorf("%d of 300 scans passed by the new interface", n)
	}
	l.visit(0, 30)
}
