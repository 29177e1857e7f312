//go:build linux

package bpf

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"dragnet/contain/ripcord/message"
	"dragnet/contain/ripcord/path"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// What the programs return (enum tcx_action_base).
const (
	drop     = 2
	redirect = 7
)

// pair is the programs in the kernel beside their twin.
type pair struct {
	t      *testing.T
	wire   *Wire
	twin   *path.Path
	events *Events
	told   []tables.PacketEvent
}

func newPair(t *testing.T, s tables.Settings) *pair {
	t.Helper()
	testkit.Root(t)
	w, err := Load(Options{Host: 1, Net: 1, Settings: s, Room: [2]uint32{64, 64}, testClock: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	p := &pair{t: t, wire: w, twin: path.New(s)}
	p.twin.Room = [2]int{64, 64}
	p.twin.OnEvent = func(e tables.PacketEvent) { p.told = append(p.told, e) }
	if p.events, err = w.Events(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.events.Close() })
	p.secret(0x1234, 0x5678)
	p.budget(2, 4)
	p.clock(10_000_000_000)
	return p
}

func (p *pair) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) clock(ns uint64) {
	p.t.Helper()
	p.twin.NS = ns
	p.check(p.wire.objects.ClockNs.Set(ns))
}

func (p *pair) secret(k0, k1 uint64) {
	p.t.Helper()
	p.twin.Secret = [2]uint64{k0, k1}
	p.check(p.wire.SetSecret(p.twin.Secret))
}

func (p *pair) budget(v4, v6 int32) {
	p.t.Helper()
	p.twin.Budget = [3]int32{v4, v6, 1}
	p.check(p.wire.SetBudget(v4, v6, 1))
}

// runnable reports whether the kernel's test run takes a frame: it wants an IP
// header to be whole.
func runnable(frame []byte) bool {
	if len(frame) <= 14 {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		return len(frame) >= 34
	case 0x86dd:
		return len(frame) >= 54
	}
	return true
}

// judge sends a frame through both and compares verdict and bytes.
func (p *pair) judge(side tables.Side, frame []byte) (tables.Reason, []byte) {
	p.t.Helper()
	if !runnable(frame) {
		return 0, frame
	}
	program := p.wire.objects.FromHost
	if side == tables.In {
		program = p.wire.objects.FromNet
	}
	out := make([]byte, len(frame)+256)
	o := &ebpf.RunOptions{Data: bytes.Clone(frame), DataOut: out}
	ret, err := program.Run(o)
	p.check(err)
	mine := bytes.Clone(frame)
	why, pass := p.twin.Judge(side, mine, false)
	want := uint32(drop)
	if pass {
		want = redirect
	}
	if why == tables.Challenge {
		want, pass = redirect, true // by the side it came from
	}
	if ret != want || pass && !bytes.Equal(o.DataOut, mine) {
		p.t.Fatalf("from side %d\n%s\nthe kernel says %d and makes\n%sthe twin says %v, %d, and makes\n%s",
			side, hex.Dump(frame), ret, hex.Dump(o.DataOut), why, want, hex.Dump(mine))
	}
	return why, mine
}

// stop ends a random coarse conversation in both.
func (p *pair) stop(r *pathtest.Random) {
	p.t.Helper()
	peer := r.Peers[r.R.IntN(len(r.Peers))]
	k := tables.Principals{
		Peer:  tables.Prefix(peer, []uint32{128, 120, 64}[r.R.IntN(3)]),
		HPort: []uint16{0, 40000}[r.R.IntN(2)], PPort: []uint16{0, 80, 443}[r.R.IntN(3)],
		Proto: []uint8{0, 6, 17, 1}[r.R.IntN(4)],
	}
	if k.Proto == 0 || k.Proto == 1 {
		k.HPort, k.PPort = 0, 0
	}
	k.Later = r.R.IntN(4) == 0
	s := tables.Stop{Until: uint32(p.twin.NS/1_000_000) + 20_000}
	p.check(p.wire.PutStop(k, s))
	if known, ok := p.twin.Stops[k]; !ok || known.SYNOnly == 1 || int32(known.Until-s.Until) < 0 {
		p.twin.Stops[k] = s
	}
	p.check(p.wire.objects.StopLengths.Lookup(uint32(0), &p.twin.Lengths))
}

// sweep removes what is over, and compares with the same on the twin.
func (p *pair) sweep() {
	p.t.Helper()
	now := uint32(p.twin.NS / 1_000_000)
	_, err := p.wire.SweepStops(now)
	p.check(err)
	for k, s := range p.twin.Stops {
		if int32(s.Until-now) <= 0 {
			delete(p.twin.Stops, k)
		}
	}
	p.check(p.wire.objects.StopLengths.Lookup(uint32(0), &p.twin.Lengths))
	for k := range p.twin.Stops {
		if !slices.Contains(p.twin.Lengths[:], uint32(k.Peer.Bits())) {
			p.t.Fatalf("a stop of %v is in force, and the lengths looked up are %v", k, p.twin.Lengths)
		}
	}
	if len(p.twin.Stops) == 0 && p.twin.Lengths != [tables.StopLengths]uint32{} {
		p.t.Fatalf("no stop is left, and the lengths looked up are %v", p.twin.Lengths)
	}
}

// compare compares the tables, the counters and the events so far.
func (p *pair) compare() {
	p.t.Helper()
	conns := map[tables.Ends]tables.Conn{}
	p.wire.Conns(func(e tables.Ends, c tables.Conn) bool { conns[e] = c; return true })
	mine := map[tables.Ends]tables.Conn{}
	for e, c := range p.twin.Conns {
		mine[e] = *c
	}
	same(p, "connections", conns, mine)
	sources, known := map[netip.Addr]tables.Source{}, map[netip.Addr]tables.Source{}
	for a, s := range p.wire.Sources() {
		sources[a] = s
	}
	for a, s := range p.twin.Sources {
		known[a] = *s
	}
	same(p, "sources", sources, known)
	stops := map[tables.Principals]tables.Stop{}
	for k, s := range p.wire.Stops() {
		stops[k] = s
	}
	same(p, "stops", stops, p.twin.Stops)
	resets, counted := map[netip.AddrPort]tables.ResetCount{}, map[netip.AddrPort]tables.ResetCount{}
	for k, r := range p.wire.readResets() {
		resets[k] = r
	}
	for k, r := range p.twin.Resets {
		counted[k] = *r
	}
	same(p, "resets", resets, counted)
	talks := map[tables.Conversation]uint32{}
	for k, v := range p.wire.Conversations() {
		talks[k] = v
	}
	same(p, "talks", talks, p.twin.Conversations)
	hops := map[netip.Addr]tables.Hop{}
	for a, h := range p.wire.Hops() {
		hops[a] = h
	}
	same(p, "hops", hops, p.twin.Hops)
	prefixes := map[netip.Prefix]uint32{}
	for a, at := range p.wire.Prefixes() {
		prefixes[a] = at
	}
	same(p, "prefixes", prefixes, p.twin.Prefixes)
	neighbours := map[netip.Addr]uint32{}
	for a, at := range p.wire.readNeighbours() {
		neighbours[a] = at
	}
	same(p, "neighbours", neighbours, p.twin.Neighbours)
	cookies := map[tables.Grant]tables.Cookie{}
	for k, c := range p.wire.readCookies() {
		cookies[k] = c
	}
	same(p, "cookies", cookies, p.twin.Cookies)
	granted := map[tables.Grant]uint64{}
	for k, v := range p.wire.readPeerCookies() {
		granted[k] = v
	}
	same(p, "peer cookies", granted, p.twin.PeerCookies)
	counters, err := p.wire.Counters()
	p.check(err)
	counters[tables.EventLost] = 0 // frames for the gateway that no test reads
	same(p, "counters", counters, p.twin.Counters)
	budget, err := p.wire.Budget()
	p.check(err)
	same(p, "budget", budget, p.twin.Budget)

	var told []tables.PacketEvent
	p.check(p.events.Drain(func(e tables.PacketEvent, ns uint64) { told = append(told, e) }))
	for i := range p.told { // the kernel writes 0 for what was not read
		p.told[i].Host, p.told[i].Peer = zeroed(p.told[i].Host), zeroed(p.told[i].Peer)
	}
	same(p, "events", told, p.told)
	p.told = nil
}

func zeroed(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	return a
}

func same[T any](p *pair, what string, kernel, twin T) {
	p.t.Helper()
	comparers := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if d := cmp.Diff(twin, kernel, comparers); d != "" {
		p.t.Fatalf("%s (- twin, + kernel):\n%s", what, d)
	}
}

func TestKernelDoesAsItsTwin(t *testing.T) {
	base := tables.DefaultSettings()
	base.BlockMS, base.CoarseMS, base.CoarseResets = 4000, 60_000, 2
	for name, change := range map[string]func(*tables.Settings){
		"enforce":   func(*tables.Settings) {},
		"observe":   func(s *tables.Settings) { s.Observe = true },
		"fail open": func(s *tables.Settings) { s.FailOpen, s.SignedPass = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			s := base
			change(&s)
			p := newPair(t, s)
			const seed = 1
			r := pathtest.NewRandom(seed, p.twin)
			n := 60_000
			if testkit.Short(t) {
				n = 5_000
			}
			reasons := map[tables.Reason]int{}
			for i := range n {
				step := 400
				if i%400 < 200 { // so that RSTs come one after the other
					step = 4
				}
				p.clock(p.twin.NS + uint64(r.R.IntN(step))*1_000_000)
				side, frame := r.Next()
				why, _ := p.judge(side, frame)
				reasons[why]++
				if i%500 == 499 {
					p.compare()
				}
				if i%1000 == 999 {
					p.stop(r)
				}
				if i%3000 == 2999 {
					p.clock(p.twin.NS + 100_000_000_000)
					p.sweep()
				}
			}
			p.compare()
			if s != base {
				return
			}
			for why := tables.PassedOut; why <= tables.Control; why++ {
				if reasons[why] == 0 && why != tables.TableFull && !testkit.Short(t) {
					t.Errorf("no packet was judged %v", why)
				}
			}
			for why := tables.Learnt; why < tables.EventLost; why++ {
				if p.twin.Counters[why] == 0 && why != tables.Untracked && !testkit.Short(t) {
					t.Errorf("nothing was counted as %v", why)
				}
			}
		})
	}
}

// TestCapturesThroughBoth sends recorded traffic through both; the host is who
// sent the first packet.
func TestCapturesThroughBoth(t *testing.T) {
	testkit.Root(t)
	var files []string
	for _, dir := range [][]string{{"zeek-traces", "Traces", "tcp"}, {"suricata-verify"}} {
		filepath.WalkDir(testkit.Data(t, dir...), func(name string, d os.DirEntry, err error) error {
			if ext := filepath.Ext(name); err == nil && (ext == ".pcap" || ext == ".pcapng") {
				files = append(files, name)
			}
			return nil
		})
	}
	if len(files) == 0 {
		t.Fatal("no captures")
	}
	if testkit.Short(t) {
		files = files[:min(len(files), 30)]
	}
	packets, dropped := 0, 0
	p := newPair(t, tables.DefaultSettings())
	for _, name := range files {
		p.budget(100, 100)
		n, d := p.replay(name)
		packets, dropped = packets+n, dropped+d
		p.compare()
	}
	t.Logf("%d captures, %d packets, of which %d dropped", len(files), packets, dropped)
	if packets == 0 || dropped == packets {
		t.Error("captures say nothing: no packet passed")
	}
}

func (p *pair) replay(name string) (packets, dropped int) {
	f, err := os.Open(name)
	p.check(err)
	defer f.Close()
	r, err := capture.NewReader(f)
	if err != nil {
		return 0, 0 // not a capture of ours to judge
	}
	var host netip.Addr
	for packets < 3000 {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) || err != nil {
			return packets, dropped
		}
		frame := rec.Data
		var d packet.Packet
		if rec.Link != packet.LinkEthernet || len(frame) > 3000 {
			continue // not a frame, or larger than a test run takes
		}
		err = d.Decode(rec.Link, frame, len(frame))
		if err == nil && !host.IsValid() {
			host = d.Src
		}
		side := tables.In
		if err == nil && d.Src == host {
			side = tables.Out
		}
		p.clock(p.twin.NS + 1_000_000)
		why, _ := p.judge(side, frame)
		packets++
		if why.Dropped() {
			dropped++
		}
		if packets%200 == 0 {
			p.compare()
		}
	}
	return packets, dropped
}

// TestStopsOfEveryLength ends conversations with prefixes of all lengths that the
// protocol has: none keeps another out.
func TestStopsOfEveryLength(t *testing.T) {
	p := newPair(t, tables.DefaultSettings())
	until := uint32(p.twin.NS/1_000_000) + 60_000
	n := 0
	put := func(a netip.Addr, bits int, mapped uint32) {
		if message.Allowed(netip.PrefixFrom(a, bits)) {
			n++
			p.check(p.wire.PutStop(tables.Principals{Peer: tables.Prefix(a, mapped), Proto: 17}, tables.Stop{Until: until}))
		}
	}
	for bits := range 33 {
		put(netip.MustParseAddr("198.51.100.1"), bits, uint32(96+bits))
	}
	for bits := range 129 {
		put(netip.MustParseAddr("2001:db8:ffff::1"), bits, uint32(bits))
	}
	if n < 40 {
		t.Fatalf("%d lengths are allowed", n)
	}
	last := tables.Principals{Peer: tables.Prefix(netip.MustParseAddr("192.0.2.1"), 128), Proto: 17}
	p.check(p.wire.PutStop(last, tables.Stop{Until: until}))
	// A shorter one does not end it early.
	p.check(p.wire.PutStop(last, tables.Stop{Until: until - 50_000}))
	for k, s := range p.wire.Stops() {
		p.twin.Stops[k] = s
		if s.Until != until {
			t.Errorf("%v ends early", k)
		}
	}
	p.check(p.wire.objects.StopLengths.Lookup(uint32(0), &p.twin.Lengths))
	host := netip.MustParseAddrPort("10.0.0.5:40000")
	for to, want := range map[string]tables.Reason{"192.0.2.1:9": tables.Stopped, "198.200.0.1:9": tables.Stopped, "203.0.113.1:9": tables.PassedOut} {
		if why, _ := p.judge(tables.Out, pathtest.UDP(host, netip.MustParseAddrPort(to), []byte("x"))); why != want {
			t.Errorf("to %s: %v, want %v", to, why, want)
		}
	}
}
