package ripcord_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord"
	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/netlab"
)

// run runs the agent in the gateway until it ends.
func (l *lab) run(args ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	return l.gateway.Run(ctx, agent, args...)
}

// TestExamineSaysCosts checks what doctor says of the two interfaces, with receive
// offload on one side, and as a user who may not ask the kernel.
func TestExamineSaysCosts(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.check(l.gateway.Offload("inside", true))
	out, err := l.run("doctor", "--ripcord", l.config)
	if err != nil {
		t.Errorf("%v, %s", err, out)
	}
	for _, want := range []string{`offload inside +ok`, `offload outside +limited +GRO is off: each segment .* 'ethtool -K outside gro on'`,
		`tcx +ok`, `bpf_loop +ok`, `eBPF compiler +ok`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	l.check(errors.Join(os.Chmod(filepath.Dir(l.dir), 0o755), os.Chmod(l.dir, 0o755), os.Chmod(l.config, 0o644)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err = l.gateway.Run(ctx, "setpriv", "--reuid=nobody", "--clear-groups", agent, "doctor", "--ripcord", l.config)
	if err == nil || !strings.Contains(out, "not known: asking takes CAP_BPF") || strings.Contains(out, "missing") {
		t.Errorf("as nobody: %v, %s", err, out)
	}
}

// TestOneOwner starts a second agent, with the same tables and with others, and
// removes the programs while the first runs and afterwards.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	if out, err := l.run("run", "ripcord", "--config", l.config); err == nil || !strings.Contains(out, "runs with these tables already") {
		t.Errorf("a second agent: %v, %s", err, out)
	}
	text, err := os.ReadFile(l.config)
	l.check(err)
	other := filepath.Join(l.dir, "other.yaml")
	l.check(os.WriteFile(other, []byte(strings.ReplaceAll(string(text), l.pins, l.pins+"2")), 0o600))
	if out, err := l.run("run", "ripcord", "--config", other); err == nil || !strings.Contains(out, "another gateway") {
		t.Errorf("an agent with other tables: %v, %s", err, out)
	}
	if out, err := l.run("ripcord", "remove", "--config", l.config); err == nil || !strings.Contains(out, "stop it first") {
		t.Errorf("remove while the agent runs: %v, %s", err, out)
	}
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	show := func() (s ripcord.GatewayStatus) {
		out, err := l.run("ripcord", "show", "--config", l.config)
		l.check(err)
		l.check(json.Unmarshal([]byte(out), &s))
		return s
	}
	if s := show(); !s.Running || !s.Attached {
		t.Errorf("show with an agent: running %v, attached %v", s.Running, s.Attached)
	}
	l.check(l.agent.Stop())
	if s := show(); s.Running || !s.Attached {
		t.Errorf("show without an agent: running %v, attached %v", s.Running, s.Attached)
	}
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	if out, err := l.run("ripcord", "remove", "--config", l.config); err != nil {
		t.Errorf("remove: %v, %s", err, out)
	}
	if c, err := l.dialQuickly(l.host, at); err == nil {
		c.Close()
		t.Error("packets pass after the programs were removed")
	}
	l.check(l.gateway.Do(func() error {
		for _, name := range []string{"inside", "outside"} {
			i, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if flags := i.Attrs().RawFlags; flags&unix.IFF_NOARP != 0 || i.Attrs().Promisc != 0 {
				t.Errorf("%s is left without ARP or promiscuous: %#x, %d", name, flags, i.Attrs().Promisc)
			}
		}
		return nil
	}))
}

// dialQuickly gives up after a second.
func (l *lab) dialQuickly(n *netlab.Node, to netip.AddrPort) (c net.Conn, err error) {
	err = n.Do(func() error {
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
		defer cancel()
		c, err = new(net.Dialer).DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

// TestInterfaceMadeAgain removes the host's interface, as a virtual machine that
// restarts does.
func TestInterfaceMadeAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	l.check(ask(c, 1000))
	opened := l.counter("opened")
	l.check(l.gateway.Do(func() error {
		i, err := netlink.LinkByName("inside")
		if err != nil {
			return err
		}
		return netlink.LinkDel(i)
	}))
	if err := l.agent.Wait(t.Context()); err == nil || !strings.Contains(l.agent.Output(), "interface inside was removed") {
		t.Fatalf("the agent ended with %v", err)
	}
	s, err := ripcord.ReadStatus(l.pins)
	l.check(err)
	if s.Attached || s.Running {
		t.Errorf("attached %v, running %v", s.Attached, s.Running)
	}
	l.check(l.net.Wire(l.host, "eth0", l.gateway, "inside"))
	l.check(l.host.Address("eth0", netip.PrefixFrom(hostIPs[0], 24)))
	l.start()
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	if l.counter("opened") <= opened {
		t.Error("the counters began again")
	}
}

// TestTablesAgeWithoutTheAgent kills the agent and opens more connections than there
// is room for.
func TestTablesAgeWithoutTheAgent(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "connections: {ipv4: 64, ipv6: 64}\n")
	l.start()
	here := netip.AddrPortFrom(hostIPs[0], 7)
	l.listen(l.host, here, echo)
	l.check(unix.Kill(l.agent.Pid(), unix.SIGKILL))
	served, refused := 0, 0
	for served < 300 {
		c, err := l.dialQuickly(l.victim, here)
		if err == nil {
			if err = ask(c, 100); err == nil {
				served++
			}
			c.Close()
		}
		// A full table is swept at most every five seconds.
		if err != nil {
			if refused++; refused > 60 {
				t.Fatalf("%d connections were served, and then none: %v", served, err)
			}
		}
	}
	if l.counter("table-full") == 0 {
		t.Log("the table was never found full")
	}
}

// TestServiceThatStartsLate has a client that tries twice a second until a service is
// there.
func TestServiceThatStartsLate(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	for range 20 {
		if _, err := l.dial(l.host, netip.AddrPort{}, at); err == nil {
			t.Fatal("somebody listens already")
		}
		time.Sleep(500 * time.Millisecond)
	}
	l.listen(l.victim, at, echo)
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	if stopped, blocks := l.counter("stopped"), l.counter("coarse-block"); stopped+blocks != 0 {
		t.Errorf("%d SYNs were stopped by %d coarse blocks", stopped, blocks)
	}
}

// TestReconnectFromAFixedPort reconnects to a peer that answers the old connection by
// RST, as one that was started again does.
func TestReconnectFromAFixedPort(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	from, at := netip.AddrPortFrom(hostIPs[0], 900), netip.AddrPortFrom(victimIPs[0], 7)
	ended := make(chan struct{})
	l.listen(l.victim, at, func(c *net.TCPConn) {
		if n, _ := c.Read(make([]byte, 1)); n == 1 {
			c.SetLinger(0)
			c.Close() // by RST
			ended <- struct{}{}
		}
	})
	for range 3 {
		c, err := l.dial(l.host, from, at)
		l.check(err)
		_, err = c.Write([]byte("x"))
		l.check(err)
		<-ended
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on")
		}
		c.Close()
	}
	if n := l.counter("blocked"); n != 0 {
		t.Errorf("%d packets were blocked", n)
	}
	if n := l.counter("block"); n != 3 {
		t.Errorf("%d connections were ended by RST, want 3", n)
	}
}

// TestFragmentedPeer has a router cut the segments of a peer on their way to the host.
func TestFragmentedPeer(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	nodes, err := l.net.Nodes("far")
	l.check(err)
	far, near := netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("10.9.0.1/24")
	l.check(errors.Join(
		l.victim.Forward(), l.net.Wire(l.victim, "wide", nodes[0], "eth0"),
		l.victim.Address("wide", near), nodes[0].Address("eth0", far),
		nodes[0].Route(netip.MustParsePrefix("10.7.0.0/24"), near.Addr()), l.host.Route(far.Masked(), victimIPs[0]),
		nodes[0].Sysctl("net.ipv4.ip_no_pmtu_disc", "1"), // may be cut
	))
	_, err = l.victim.Run(t.Context(), "ip", "link", "set", "eth0", "mtu", "1300")
	l.check(err)
	at := netip.AddrPortFrom(far.Addr(), 7)
	data := bytes.Repeat([]byte("longer than a link takes "), 20_000)
	l.listen(nodes[0], at, func(c *net.TCPConn) {
		c.Write(data)
		c.Close()
	})
	wire := l.tap(l.gateway, "outside")
	for range 3 { // the last segment, with its FIN, may be one that is cut
		c := l.mustDial(l.host, netip.AddrPort{}, at)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		got, err := io.ReadAll(c)
		l.check(errors.Join(err, c.Close()))
		if !bytes.Equal(got, data) {
			t.Errorf("%d octets arrived of %d, or others", len(got), len(data))
		}
	}
	cut := 0
	for _, p := range wire.packets() {
		if p.Src == far.Addr() && p.Fragment {
			cut++
		}
	}
	if cut == 0 {
		t.Error("nothing was cut")
	}
	l.until("the tables show the connections as over", func() bool {
		w, err := bpf.Open(l.pins)
		l.check(err)
		defer w.Close()
		open := 0
		w.Conns(func(_ tables.Ends, c tables.Conn) bool {
			if !c.Over() {
				open++
			}
			return true
		})
		return open == 0
	})
}
