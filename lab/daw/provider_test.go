package daw_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/internal/testkit"
)

// newProvider is an ISP of three customer networks, with an outside beyond its core,
// whose guards act in the kernel.
func newProvider(t *testing.T) *isp {
	l := newKernelISP(t)
	nodes, err := l.net.Nodes("customer3", "edge3", "world")
	if err != nil {
		t.Fatal(err)
	}
	l.addCustomer(2, nodes[0], nodes[1])
	// What the core answered, the outside does.
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	l.outside = nodes[2]
	for _, args := range [][]string{{"route", "del", "local", "198.18.0.0/15", "dev", "lo"}, {"addr", "del", "203.0.113.10/32", "dev", "lo"}} {
		if _, err := l.core.Run(t.Context(), "ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(l.net.Wire(l.core, "world", l.outside, "core"), l.core.Address("world", prefix("172.16.9.1/30")), l.outside.Address("core", prefix("172.16.9.2/30")),
		l.core.Route(prefix("198.18.0.0/15"), addr("172.16.9.2")), l.core.Route(prefix("203.0.113.0/24"), addr("172.16.9.2")),
		l.outside.Route(prefix("0.0.0.0/0"), addr("172.16.9.1")), l.core.Forward())
	if err != nil {
		t.Fatal(err)
	}
	l.addWorld()
	l.serve()
	return l
}

// visitAtOnce connects as visit does, and reports a SYN that had to be sent again:
// nothing was dropped, and nothing slowed down.
func (l *isp) visitAtOnce(customer, host int) {
	l.t.Helper()
	err := l.customers[customer].Do(func() error {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(10, byte(customer+1), 0, byte(host))}}
		c, err := d.Dial("tcp4", "203.0.113.10:80")
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		var info *unix.TCPInfo
		var problem error
		if err := raw.Control(func(fd uintptr) { info, problem = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil || problem != nil {
			return errors.Join(err, problem)
		}
		if info.Total_retrans > 0 {
			return fmt.Errorf("%d segments were sent again", info.Total_retrans)
		}
		return nil
	})
	l.benign++
	if err != nil {
		l.refused++
		l.t.Errorf("customer %d, an uninfected host is hindered: %v", customer+1, err)
	}
}

// Three customer networks under a station, with the limits in the kernel: a host that
// scans, in two of them, is held to 2*omega + r*T failures each day, and what others
// open beside it is established by the first SYN. A killed guard leaves what was
// configured; a lost station leaves the limits.
func TestProviderInTheKernel(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newProvider(t)
	midnight := time.Now().Add(20 * time.Second).Truncate(time.Second)
	l.start(midnight, 100)
	worms, cure := context.WithCancel(context.Background())
	defer cure()
	const perSecond = 40
	scanners := []*scanner{l.scan(worms, 0, 10, perSecond), l.scan(worms, 1, 10, perSecond)}
	visitAll := func(until time.Time) {
		for time.Now().Before(until) {
			for customer := range 3 {
				l.visitAtOnce(customer, 30)
			}
			l.visitAtOnce(0, 31)
			time.Sleep(50 * time.Millisecond)
		}
	}
	check := func(day string, passed []int) {
		t.Helper()
		for i, n := range passed {
			// T is below a second: refusals come at once.
			if n > 2*omega+perSecond || n == 0 {
				t.Errorf("%s: %d scans of host %d passed; want at most 2*omega = %d and those of a second", day, n, i+1, 2*omega)
			}
		}
		t.Logf("%s: %v scans passed, sent %d and %d; %d visits, %d hindered", day, passed, scanners[0].sent, scanners[1].sent, l.benign, l.refused)
	}
	visitAll(midnight)
	first := []int{scanners[0].passed, scanners[1].passed}
	check("the first day", first)
	visitAll(midnight.Add(8 * time.Second))
	check("the second day", []int{scanners[0].passed - first[0], scanners[1].passed - first[1]})

	// The station is lost: the guards go on.
	if err := syscall.Kill(l.node.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.await(10*time.Second, "a guard says that the station is gone", func() bool { return strings.Contains(l.guards[0].Output(), "keeping the last policy") })
	before := []int{scanners[0].passed, scanners[1].passed}
	visitAll(time.Now().Add(2 * time.Second))
	for i, s := range scanners {
		if n := s.passed - before[i]; n > perSecond/2 {
			t.Errorf("without the station, %d scans of host %d passed in two seconds", n, i+1)
		}
	}

	// Killed guards: the first leaves the limits, the second lets all pass.
	for i := range 2 {
		if err := syscall.Kill(l.guards[i].Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	before = []int{scanners[0].passed, scanners[1].passed}
	visitAll(time.Now().Add(3 * time.Second))
	kept, free := scanners[0].passed-before[0], scanners[1].passed-before[1]
	if kept > perSecond/2 || free < perSecond {
		t.Errorf("without guards, %d scans passed where limits stay, and %d where none do", kept, free)
	}
	t.Logf("without guards, %d scans passed where limits stay, %d where none do; %d visits, %d hindered", kept, free, l.benign, l.refused)
}
