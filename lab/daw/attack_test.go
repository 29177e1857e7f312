package daw_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"dragnet/contain/guard"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"
	"dragnet/packet/live"
)

// attacker sends forged frames on the wire of customer 1.
type attacker struct {
	l      *isp
	sender *netlab.FrameSender
	router net.HardwareAddr
}

// startAlone runs a guard at edge 1 without a station, with more configuration.
func (l *isp) startAlone(more string) *attacker {
	l.t.Helper()
	l.write("edge1.yaml", l.aloneConfig(1, "inside", more))
	l.startGuard(0)
	return l.openAttacker("eth0", "inside")
}

// openAttacker opens a sender of frames in the first customer network, toward an interface
// of its edge.
func (l *isp) openAttacker(at, edge string) *attacker {
	l.t.Helper()
	a := &attacker{l: l, router: hardware(l, l.edges[0], edge)}
	var err error
	if a.sender, err = l.customers[0].OpenFrames(at); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { a.sender.Close() })
	return a
}

// newKernelISP is an ISP whose guards act in the kernel.
func newKernelISP(t *testing.T) *isp {
	l := newISP(t)
	l.kernel = true
	l.mountPins()
	return l
}

// eachMode plays an attack against a guard that watches and acts by nftables, and one
// in the kernel.
func eachMode(t *testing.T, attack func(*testing.T, *isp)) {
	testkit.Long(t)
	t.Parallel()
	for _, mode := range []string{"nftables", "kernel"} {
		t.Run(mode, func(t *testing.T) {
			l := newISP(t)
			if l.kernel = mode == "kernel"; l.kernel {
				l.mountPins()
			}
			attack(t, l)
		})
	}
}

// mountPins mounts a BPF file system for the guards' tables.
func (l *isp) mountPins() {
	l.t.Helper()
	dir := filepath.Join(l.dir, "bpf")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = unix.Mount("bpf", dir, "bpf", 0, "")
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// slip is what passes before a limit holds: in the kernel, what is on its way
// already.
func (l *isp) slip(n int64) int64 {
	if l.kernel {
		return 10
	}
	return n
}

// held are the sources that a guard holds back.
func (l *isp) held(edge int) []string {
	l.t.Helper()
	if !l.kernel {
		return l.listed(edge, "held4")
	}
	b, err := os.ReadFile(fmt.Sprintf("%s/edge%d/events.jsonl", l.dir, edge+1))
	if err != nil {
		l.t.Fatal(err)
	}
	now := map[string]bool{}
	for line := range bytes.Lines(b) {
		var a guard.Action
		if err := json.Unmarshal(line, &a); err != nil {
			l.t.Fatal(err)
		}
		switch a.What {
		case "hold":
			now[a.Target.Addr().String()] = true
		case "release":
			delete(now, a.Target.Addr().String())
		}
	}
	return slices.Collect(maps.Keys(now))
}

func (l *isp) aloneConfig(edge int, inside, more string) string {
	path := fmt.Sprintf("live: {interface: %s}", inside)
	switch {
	case strings.Contains(more, "kernel:"):
		path = ""
	case l.kernel:
		path = fmt.Sprintf("kernel: {interfaces: [%s], pins: %s/bpf/edge%d}", inside, l.dir, edge)
	}
	return fmt.Sprintf(`
name: edge%[1]d
every: 1s
state: %[2]s/edge%[1]d
%[3]s
scope: {sources: [10.%[1]d.0.0/24], ports: [80]}
standing: {by: the lab, why: attacks on the guard, enforce: true, most: 2}
limits: {omega: %[4]d, bucket: 10, lambda: 1, phi: 0, entries: 4096, records: 4096, requests: 65536}
%[5]s`, edge, l.dir, path, omega, more)
}

// hardware is the Ethernet address of an interface.
func hardware(l *isp, n *netlab.Node, dev string) (mac net.HardwareAddr) {
	l.t.Helper()
	if err := n.Do(func() error {
		link, err := net.InterfaceByName(dev)
		if err == nil {
			mac = link.HardwareAddr
		}
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	return mac
}

// ends of a connection that a frame belongs to.
type ends struct {
	src, dst         string
	srcPort, dstPort uint16
}

// send sends a TCP segment from a station, under any address.
func (a *attacker) send(station net.HardwareAddr, e ends, tcp layers.TCP) {
	a.l.t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Id: 1, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(e.src).To4(), DstIP: net.ParseIP(e.dst).To4()}
	tcp.SrcPort, tcp.DstPort, tcp.Window = layers.TCPPort(e.srcPort), layers.TCPPort(e.dstPort), 1000
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		a.l.t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	eth := &layers.Ethernet{SrcMAC: station, DstMAC: a.router, EthernetType: layers.EthernetTypeIPv4}
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, &tcp); err != nil {
		a.l.t.Fatal(err)
	}
	if err := a.sender.Send(b.Bytes()); err != nil {
		a.l.t.Fatal(err)
	}
}

// watchCore counts the SYNs of a source that reach the core, whole or in pieces.
func (l *isp) watchCore(source string) *atomic.Int64 {
	l.t.Helper()
	c := live.DefaultConfiguration()
	c.Interface = "edge1"
	var r *live.Reader
	if err := l.core.Do(func() (err error) { r, err = live.Open(c); return err }); err != nil {
		l.t.Fatal(err)
	}
	var n atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			rec, err := r.Next(20 * time.Millisecond)
			select {
			case <-stop:
				return
			default:
			}
			var p packet.Packet
			if err != nil || rec.Direction != capture.Received || p.Decode(rec.Link, rec.Data, rec.Wire) != nil || p.Src.String() != source {
				continue
			}
			if p.Fragment || p.Flags&2 != 0 {
				n.Add(1)
			}
		}
	}()
	l.t.Cleanup(func() { close(stop); <-done; r.Close() })
	return &n
}

func target(n int) string { return fmt.Sprintf("198.18.%d.%d", n>>8+1, n&0xff) }

const pace = 4 * time.Millisecond

// A host that sends its SYNs in two fragments reaches no target.
func TestFragmentedScans(t *testing.T) { eachMode(t, fragmentedScans) }

func fragmentedScans(t *testing.T, l *isp) {
	a := l.startAlone("validation: {by: the lab}\n")
	arrived := l.watchCore("10.1.0.10")
	for n := range 400 {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: uint16(n), Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP("10.1.0.10").To4(), DstIP: net.ParseIP(target(n)).To4()}
		tcp := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: uint32(n), SYN: true, Window: 1000}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		whole := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(whole, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, tcp); err != nil {
			t.Fatal(err)
		}
		for i, part := range [][]byte{whole.Bytes()[:8], whole.Bytes()[8:]} {
			ip.Flags, ip.FragOffset = layers.IPv4MoreFragments, 0
			if i == 1 {
				ip.Flags, ip.FragOffset = 0, 1
			}
			b := gopacket.NewSerializeBuffer()
			eth := &layers.Ethernet{SrcMAC: a.sender.MAC, DstMAC: a.router, EthernetType: layers.EthernetTypeIPv4}
			if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, gopacket.Payload(part)); err != nil {
				t.Fatal(err)
			}
			if err := a.sender.Send(b.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(time.Second)
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d packets of 400 SYNs in fragments reached the core", n)
	}
	l.visit(0, 20)
}

// A host that answers itself in its targets' names is held to its limit.
func TestSelfAnsweredScans(t *testing.T) { eachMode(t, selfAnsweredScans) }

func selfAnsweredScans(t *testing.T, l *isp) {
	a := l.startAlone("validation: {by: the lab}\n")
	arrived := l.watchCore("10.1.0.10")
	for n := range 1000 {
		scan := ends{"10.1.0.10", target(n), uint16(10_000 + n), 80}
		a.send(a.sender.MAC, scan, layers.TCP{Seq: uint32(n), SYN: true})
		a.send(a.sender.MAC, ends{scan.dst, scan.src, 80, scan.srcPort}, layers.TCP{Seq: 1, Ack: uint32(n) + 1, SYN: true, ACK: true})
		time.Sleep(pace)
	}
	time.Sleep(time.Second)
	if n := arrived.Load(); n > 2*omega+l.slip(1000/8) || n == 0 {
		t.Errorf("%d of 1000 scans reached the core; want at most 2*omega and what slips by", n)
	}
}

// A neighbour who forges a host's requests and their refusals harms it neither in
// the table of a guard that binds sources, nor anybody else.
func TestFramedNeighbour(t *testing.T) { eachMode(t, framedNeighbour) }

func framedNeighbour(t *testing.T, l *isp) {
	const victim = "10.1.0.20"
	a := l.startAlone(fmt.Sprintf("validation: {bindings: [{prefix: 10.1.0.0/27, mac: %q}]}\n", hardware(l, l.customers[0], "eth0")))
	arrived := l.watchCore(victim)
	framer := net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	for n := range 800 {
		scan := ends{victim, target(n), uint16(10_000 + n), 80}
		a.send(framer, scan, layers.TCP{Seq: uint32(n), SYN: true})
		a.send(framer, ends{scan.dst, scan.src, 80, scan.srcPort}, layers.TCP{Ack: uint32(n) + 1, RST: true, ACK: true})
		time.Sleep(pace)
	}
	time.Sleep(500 * time.Millisecond)
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d requests forged in the victim's name left the network", n)
	}
	for range 6 {
		l.visit(0, 20)
	}
	if held := l.held(0); len(held) != 0 {
		t.Errorf("held: %v", held)
	}
}

// Sources that somebody brings to their limits, more than 'most', do not end the
// limit for others.
func TestManySourcesAtTheirLimits(t *testing.T) { eachMode(t, manySourcesAtTheirLimits) }

func manySourcesAtTheirLimits(t *testing.T, l *isp) {
	a := l.startAlone("validation: {by: the lab}\n")
	const sources = 8
	count := [sources]*atomic.Int64{}
	for i := range sources {
		count[i] = l.watchCore(fmt.Sprint("10.1.0.", 10+i))
	}
	for n := range 500 {
		for i := range sources {
			a.send(a.sender.MAC, ends{fmt.Sprint("10.1.0.", 10+i), target(n*sources + i), uint16(10_000 + n), 80}, layers.TCP{Seq: uint32(n), SYN: true})
		}
		time.Sleep(pace)
	}
	time.Sleep(time.Second)
	for i := range sources {
		if n := count[i].Load(); n > 2*omega+l.slip(500/4) || n == 0 {
			t.Errorf("source %d: %d of 500 scans reached the core", i, n)
		}
	}
	if held := l.held(0); len(held) != sources {
		t.Errorf("held %v, want %d", held, sources)
	}
	l.visit(0, 40)
}

// A guard that does not know who sends in whose name does not start to enforce.
func TestNoEnforcementWithoutValidation(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newISP(t)
	l.write("bare.yaml", "state: ''\nlive: {interface: inside}\nscope: {sources: [10.1.0.0/24], ports: [80]}\nstanding: {by: a, why: b, enforce: true}\n")
	out, err := l.edges[0].Run(t.Context(), l.agent, "run", "guard", "--config", l.dir+"/bare.yaml")
	if err == nil || !strings.Contains(out+err.Error(), "name who validates source addresses") {
		t.Errorf("%v: %s", err, out)
	}
}

// A page with 150 dead images costs its visitor no connection to what answered
// somebody here before, though it is held back.
func TestPageWithDeadImages(t *testing.T) { eachMode(t, pageWithDeadImages) }

func pageWithDeadImages(t *testing.T, l *isp) {
	a := l.startAlone("validation: {by: the lab}\n")
	l.visit(0, 30) // somebody else's visit
	arrived := l.watchCore("10.1.0.20")
	for n := range 150 {
		a.send(a.sender.MAC, ends{"10.1.0.20", target(n), uint16(10_000 + n), 80}, layers.TCP{Seq: uint32(n), SYN: true})
		time.Sleep(pace)
	}
	l.await(5*time.Second, "the visitor is held back", func() bool { return len(l.held(0)) == 1 })
	before := arrived.Load()
	for range 30 {
		l.visit(0, 20)
	}
	time.Sleep(300 * time.Millisecond)
	visits := arrived.Load() - before
	for n := range 150 { // and it gains no scans by that
		a.send(a.sender.MAC, ends{"10.1.0.20", target(1000 + n), uint16(20_000 + n), 80}, layers.TCP{Seq: uint32(n), SYN: true})
		time.Sleep(pace)
	}
	time.Sleep(time.Second)
	if scans := arrived.Load() - before - visits; scans > 10 {
		t.Errorf("%d of 150 scans passed while the visitor was held back", scans)
	}
	// A service that never answered anybody here is out of reach meanwhile.
	t.Logf("%d SYNs of 30 visits arrived", visits)
}

// Requests leave by edge 1, and their refusals come by edge 2.
func TestAsymmetricRouting(t *testing.T) { eachMode(t, asymmetricRouting) }

func asymmetricRouting(t *testing.T, l *isp) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	err := errors.Join(
		l.net.Wire(l.customers[0], "eth1", l.edges[1], "inside2"),
		l.edges[1].Address("inside2", prefix("10.3.0.1/24")), l.customers[0].Address("eth1", prefix("10.3.0.2/24")),
		l.edges[1].Route(prefix("10.1.0.0/24"), addr("10.3.0.2")), l.core.Forward(),
	)
	for _, n := range []*netlab.Node{l.customers[0], l.edges[1], l.core} {
		err = errors.Join(err, n.Sysctl("net.ipv4.conf.all.rp_filter", "0"))
	}
	if err == nil {
		_, err = l.core.Run(t.Context(), "ip", "route", "replace", "10.1.0.0/24", "via", "172.16.2.2")
	}
	if err != nil {
		t.Fatal(err)
	}
	l.write("key", strings.Repeat("k", 40))
	const edges = "edges: {listen: \"172.16.%d.2:9125\", peers: [\"172.16.%d.2:9125\"], key: %s/key}\n"
	a := l.startAlone("validation: {by: the lab}\n" + fmt.Sprintf(edges, 1, 2, l.dir))
	l.write("edge2.yaml", strings.Replace(l.aloneConfig(2, "inside2", "validation: {by: the lab}\n"+fmt.Sprintf(edges, 2, 1, l.dir)), "10.2.0.0/24", "10.1.0.0/24", 1))
	l.startGuard(1)
	for i := range 2 {
		l.await(5*time.Second, "the edges hear each other", func() bool { return strings.Contains(l.guards[i].Output(), "all other edges are heard") })
	}
	arrived := l.watchCore("10.1.0.10")
	for n := range 1500 {
		a.send(a.sender.MAC, ends{"10.1.0.10", target(n), uint16(10_000 + n), 80}, layers.TCP{Seq: uint32(n), SYN: true})
		time.Sleep(pace)
	}
	time.Sleep(time.Second)
	if n := arrived.Load(); n > 2*omega+l.slip(1500/8) || n == 0 {
		t.Errorf("%d of 1500 scans reached the core", n)
		t.Log(l.guards[0].Output())
	}
	if held := l.held(0); len(held) != 1 {
		t.Errorf("edge 1 holds %v back", held)
	}
	for range 10 {
		l.visit(0, 30)
	}
}
