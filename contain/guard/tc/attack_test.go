//go:build linux

package tc

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"dragnet/daw"
	"dragnet/flow"
)

func small() daw.Parameters {
	p := daw.DefaultParameters()
	p.Entries, p.Records, p.Requests, p.Recent, p.Answered, p.Waiting, p.Seed = 16, 1024, 1<<13, 100, 50, 500, 5
	p.Omega, p.Bucket = 40, 10
	return p
}

func from(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// scan sends a request and its refusal; it reports whether the request passed.
func (x *pair) scan(src netip.Addr, n uint32) bool {
	x.t.Helper()
	a := netip.AddrPortFrom(src, 1000)
	dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(20 + n>>16), byte(n >> 8), byte(n), 1}), 80)
	before := x.dropped[daw.Forward]
	x.judge(true, segment(a, dst, fSYN, n, 0))
	if x.dropped[daw.Forward] == before {
		return false
	}
	x.judge(false, segment(dst, a, fRST|fACK, 0, n+1))
	return true
}

// A flood of spoofed sources, each of which fails, takes no offender's record: the
// table keeps the largest counters.
func TestSpoofedFloodEvictsNoOffender(t *testing.T) {
	p := small()
	p.Phi, p.Tau = 60, 30
	x := newPair(t, p, customer, monday)
	offender := netip.MustParseAddr("10.1.1.1")
	n := uint32(0)
	for x.scan(offender, n) || n < 100 {
		n++
		x.clock(x.now + flow.Time(time.Second))
	}
	passed := 0
	for i := range uint32(20_000) {
		n++
		x.scan(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), n)
		if i%100 == 0 {
			n++
			if x.clock(x.now + flow.Time(time.Millisecond)); x.scan(offender, n) {
				passed++
			}
		}
	}
	if r := x.twin.Report(x.now); r.Records < p.Records || passed > 2 {
		t.Errorf("%d records; the offender gets %d of 200 scans through", r.Records, passed)
	}
	x.compare()
}

// Blocks act on prefixes, ports outside the scope and other protocols, end in time,
// and give way to the allow list. What is asked of a blocked server, it may answer.
func TestBlocks(t *testing.T) {
	x := newPair(t, small(), customer, monday)
	until := monday + flow.Time(time.Hour)
	x.check(x.kernel.SetBlocks(x.twin, []BlockedPrefix{{netip.MustParsePrefix("10.0.0.0/24"), until}, {netip.MustParsePrefix("10.0.0.7/32"), monday + flow.Time(time.Minute)}, {netip.MustParsePrefix("2001:db8:1::/48"), until}}))
	udp := func(src, dst netip.AddrPort) []byte {
		b := []byte{byte(src.Port() >> 8), byte(src.Port()), byte(dst.Port() >> 8), byte(dst.Port()), 0, 8, 0, 0}
		return frameOf(src.Addr(), dst.Addr(), 17, b)
	}
	host, peer := from("10.0.0.7:53"), from("20.0.0.1:4000")
	host6, peer6 := from("[2001:db8:1::7]:53"), from("[2001:500::1]:4000")
	expect := func(what string, frame []byte, want uint32) {
		t.Helper()
		if got := x.run(x.kernel.objects.FromInside, frame); got != want {
			t.Errorf("%s: %d, want %d", what, int32(got), int32(want))
		}
	}
	expect("SYN", segment(host, from("20.0.0.1:80"), fSYN, 1, 0), drop)
	expect("SYN to another port", segment(host, from("20.0.0.1:25"), fSYN, 1, 0), drop)
	expect("SYN of IPv6", segment(host6, from("[2001:500::1]:25"), fSYN, 1, 0), drop)
	expect("data", segment(host, from("20.0.0.1:25"), fACK, 1, 0), next)
	expect("UDP", udp(host, peer), drop)
	expect("another host", segment(from("10.0.1.7:53"), from("20.0.0.1:25"), fSYN, 1, 0), next)
	x.run(x.kernel.objects.ToInside, udp(peer, host))
	x.run(x.kernel.objects.ToInside, udp(peer6, host6))
	expect("an answer", udp(host, peer), next)
	expect("an answer of IPv6", udp(host6, peer6), next)
	expect("UDP to another", udp(host, from("20.0.0.1:4001")), drop)
	x.clock(until - flow.Time(time.Second))
	expect("a shorter block in a longer one", segment(host, from("20.0.0.1:25"), fSYN, 1, 0), drop)
	x.check(x.kernel.SetScope(customer, []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}))
	expect("allowed", segment(host, from("20.0.0.1:25"), fSYN, 1, 0), next)
	expect("not allowed", segment(from("10.0.0.8:53"), from("20.0.0.1:25"), fSYN, 1, 0), drop)
	x.clock(until + flow.Time(time.Second))
	expect("over", segment(from("10.0.0.8:53"), from("20.0.0.1:25"), fSYN, 1, 0), next)
	x.check(x.kernel.SetBlocks(x.twin, nil))
	if x.kernel.HasBlock(netip.MustParsePrefix("10.0.0.0/24")) {
		t.Error("a block that was removed is there")
	}
}

// A source that is bound to a station is of no use to another.
func TestBoundStations(t *testing.T) {
	x := newPair(t, small(), customer, monday)
	x.check(x.kernel.SetBindings([]StationBinding{{netip.MustParsePrefix("10.0.0.7/32"), 0x020000000002}, {netip.MustParsePrefix("10.0.0.8/32"), 0x020000000009}}, true))
	for src, want := range map[string]uint32{"10.0.0.7:1": next, "10.0.0.8:1": drop, "10.0.0.9:1": next} {
		for _, flags := range []uint8{fSYN, fACK} {
			if got := x.run(x.kernel.objects.FromInside, segment(from(src), from("20.0.0.1:80"), flags, 1, 0)); got != want {
				t.Errorf("%s, flags %d: %d, want %d", src, flags, int32(got), int32(want))
			}
		}
	}
}

// An accomplice at another interface toward the customer network cannot answer in the
// targets' names: what came by one is no reply.
func TestReplyFromInsideIsNone(t *testing.T) {
	x := newPair(t, small(), customer, monday)
	x.check(x.kernel.objects.Insides.Put(uint32(7), uint32(1)))
	host, target := from("10.0.0.7:1000"), from("20.0.0.1:80")
	x.run(x.kernel.objects.FromInside, segment(host, target, fSYN, 1, 0))
	for i, by := range []uint32{7, 8} {
		want := uint64(i)
		context := [11]uint32{9: by} // ingress_ifindex of struct __sk_buff
		if _, err := x.kernel.objects.ToInside.Run(&ebpf.RunOptions{Data: append(segment(target, host, fSYN|fACK, 9, 2), make([]byte, 10)...), Context: context}); err != nil {
			t.Fatal(err)
		}
		tables, err := x.kernel.ReadTables()
		x.check(err)
		x.check(x.twin.Import(tables))
		if n := x.twin.Report(x.now).Successes; n != want {
			t.Errorf("by interface %d: %d successes, want %d", by, n, want)
		}
	}
}

// Processors at work at the same time lose no count.
func TestConcurrentPackets(t *testing.T) {
	x := newPair(t, small(), customer, monday)
	const each = 50_000
	var both sync.WaitGroup
	for i := range 4 {
		both.Go(func() {
			frame := segment(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 9), from("20.0.0.1:80"), fSYN, 1, 0)
			if _, _, err := x.kernel.objects.FromInside.Benchmark(append(frame, make([]byte, 10)...), each, nil); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	tables, err := x.kernel.ReadTables()
	x.check(err)
	x.check(x.twin.Import(tables))
	if r := x.twin.Report(x.now); r.Verdicts[daw.Forward] != 4*each || r.Requests != 4 {
		t.Errorf("%d of %d packets counted, %d requests", r.Verdicts[daw.Forward], 4*each, r.Requests)
	}
	if c, err := x.kernel.Counters(); err != nil || c.Requests != 4*each || c.Busy != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// shims puts octets between the addresses and the IP header of a frame.
func shims(frame, shim []byte) []byte {
	return append(append(bytes.Clone(frame[:12]), shim...), frame[14:]...)
}

// What stands between Ethernet's header and that of IP hides no SYN.
func TestShimsHideNoSYN(t *testing.T) {
	for name, shim := range map[string][]byte{
		"PPPoE":                {0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21},
		"PPPoE in a VLAN":      {0x81, 0, 0, 5, 0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21},
		"an old tag of QinQ":   {0x91, 0, 0, 5, 0x81, 0, 0, 6, 8, 0},
		"three tags":           {0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7, 8, 0},
		"no tag at all, of IP": {8, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := small()
			p.Omega, p.Bucket, p.Lambda = 4, 2, 0.1
			x := newPair(t, p, customer, monday)
			for n := range uint32(20) {
				a, dst := from("10.1.1.1:1000"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 1, byte(n), 1}), 80)
				x.judge(true, shims(segment(a, dst, fSYN, n, 0), shim))
				x.judge(false, shims(segment(dst, a, fRST|fACK, 0, n+1), shim))
				x.clock(x.now + flow.Time(time.Second))
			}
			if x.dropped[daw.Temporal] == 0 {
				t.Error("no request of a scanner was dropped")
			}
			x.compare()
		})
	}
}

// A host that sends IPv6 under the mapped form of a neighbour's IPv4 address counts for
// nobody.
func TestMappedAddressFramesNobody(t *testing.T) {
	x := newPair(t, small(), customer, monday)
	victim, server := from("10.1.1.1:1000"), from("20.0.0.1:80")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(victim.Addr().As16()), 1000)
	for n := range uint32(100) {
		b := netip.MustParseAddr("2001:500::1").As16()
		b[6] = byte(n)
		x.judge(true, segment(mapped, netip.AddrPortFrom(netip.AddrFrom16(b), 80), fSYN, n, 0))
		x.clock(x.now + flow.Time(time.Second))
		x.judge(true, segment(from("10.1.1.2:1000"), server, fSYN, n, 0)) // others are answered
		x.judge(false, segment(server, from("10.1.1.2:1000"), fSYN|fACK, 1, n+1))
	}
	x.compare()
	x.judge(true, segment(victim, server, fSYN, 1, 0))
	if r := x.twin.Report(x.now); r.Failed() != 0 || r.Verdicts[daw.Forward] != 101 {
		t.Errorf("%+v", r.Counts)
	}
}
