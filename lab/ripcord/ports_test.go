package ripcord_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"dragnet/contain/ripcord"
	"dragnet/internal/netlab"
)

// TestPorts puts two hosts behind one agent, each between a port of its own and a
// bridge: what a victim ends of one leaves the other alone, none can use the other's
// address, and a port that goes and comes back does not disturb its neighbour.
func TestPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	nodes, err := l.net.Nodes("second")
	l.check(err)
	second := nodes[0]
	secondIP := netip.MustParseAddr("10.7.0.3")
	run := func(args ...string) {
		t.Helper()
		_, err := l.gateway.Run(t.Context(), args[0], args[1:]...)
		l.check(err)
	}
	// newLab has wired the first host to "inside" and the victim to "outside".
	plug := func(n int) {
		run("ip", "link", "add", fmt.Sprint("up", n), "type", "veth", "peer", "name", fmt.Sprint("br-up", n))
		run("ip", "link", "set", fmt.Sprint("br-up", n), "master", "br0", "up")
	}
	run("ip", "link", "add", "br0", "type", "bridge")
	run("ip", "link", "set", "br0", "up")
	run("ip", "link", "set", "outside", "master", "br0", "up")
	l.check(errors.Join(l.net.Wire(second, "eth0", l.gateway, "inside2"), second.Address("eth0", netip.PrefixFrom(secondIP, 24))))
	plug(1)
	plug(2)
	state := filepath.Join(l.dir, "state")
	l.check(os.WriteFile(l.config, fmt.Appendf(nil, `enforce: true
pins: %s
state: %s
ports:
  - {name: one, host: inside, network: up1, addresses: [%s]}
  - {name: two, host: inside2, network: up2, addresses: [%s]}
`, l.pins, state, hostIPs[0], secondIP), 0o600))
	status := func() map[string]*ripcord.GatewayStatus {
		all := map[string]*ripcord.GatewayStatus{}
		if out, err := l.run("ripcord", "show", "--config", l.config); err == nil {
			_, object, _ := strings.Cut(out, "{") // after what is said of ports that were never attached
			l.check(json.Unmarshal([]byte("{"+object), &all))
		}
		return all
	}
	both := func() bool {
		s := status()
		return s["one"] != nil && s["two"] != nil && s["one"].Attached && s["one"].Running && s["two"].Attached && s["two"].Running
	}
	begin := func() *netlab.Process {
		p, err := l.gateway.Start(agent, "run", "ripcord", "--config", l.config)
		l.check(err)
		l.until("both ports are attached", both)
		return p
	}
	begin()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	first, other := l.mustDial(l.host, netip.AddrPort{}, at), l.mustDial(second, netip.AddrPort{}, at)
	l.check(errors.Join(ask(first, 1000), ask(other, 1000)))

	// The victim ends what the first host has with it.
	_, err = l.victim.Run(t.Context(), "ss", "-K", "dst", hostIPs[0].String())
	l.check(err)
	l.until("a conversation of the first host is ended", func() bool { return ask(first, 10) != nil && status()["one"].Ended == 1 })
	l.check(ask(other, 1000))
	if s := status(); s["two"].Ended != 0 {
		t.Errorf("the second port: %+v", s["two"])
	}
	// The first host in the second's name.
	l.check(l.host.Address("eth0", netip.PrefixFrom(secondIP, 32)))
	if c, err := l.dial(l.host, netip.AddrPortFrom(secondIP, 0), at); err == nil {
		c.Close()
		t.Error("a host opened a connection from its neighbour's address")
	}
	if n := status()["one"].Counters["spoofed"]; n == 0 {
		t.Error("no packet was dropped as spoofed")
	}

	// One port goes: the other's connection goes on under the same agent.
	l.check(l.gateway.Do(func() error {
		dev, err := netlink.LinkByName("up1")
		if err != nil {
			return err
		}
		return netlink.LinkDel(dev)
	}))
	l.until("the port is detached", func() bool { s := status(); return s["one"] == nil || !s["one"].Running })
	l.check(ask(other, 1000))
	if s := status(); !s["two"].Running {
		t.Error("no agent runs for the other port")
	}
	// It comes back: the agent ends, so that its next start attaches it.
	plug(1)
	l.until("the agent ends", func() bool { s := status(); return s["two"] != nil && !s["two"].Running })
	l.check(ask(other, 1000))
	p := begin()
	l.check(ask(other, 1000))
	l.check(ask(l.mustDial(l.host, netip.AddrPortFrom(hostIPs[0], 0), at), 1000))

	// A port that is taken out of the file is named, since its programs go on.
	text, err := os.ReadFile(l.config)
	l.check(err)
	fewer := filepath.Join(l.dir, "fewer.yaml")
	l.check(os.WriteFile(fewer, regexp.MustCompile("(?m)^.*name: one.*$").ReplaceAll(text, nil), 0o600))
	l.check(p.Stop())
	p, err = l.gateway.Start(agent, "run", "ripcord", "--config", fewer)
	l.check(err)
	l.until("what is left of the first port is named", func() bool {
		return strings.Contains(p.Output(), "not configured go on in the kernel") && strings.Contains(p.Output(), `"port":"one"`)
	})

	out, err := l.run("ripcord", "show", "--config", l.config, "--port", "three")
	if err == nil || !strings.Contains(out, `has no port "three"`) {
		t.Errorf("a port that is not there: %v, %s", err, out)
	}
}
