//go:build linux

package bpf

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
)

// TestFullTables fills the tables of connections and of stops, and compares with the
// twin.
func TestFullTables(t *testing.T) {
	s := tables.DefaultSettings()
	s.CoarseResets, s.CoarseMS, s.BlockMS, s.HandshakeMS, s.EstablishedMS = 1, 2000, 3000, 6000, 30_000
	p := newPair(t, s)
	r := rand.New(rand.NewPCG(1, 2))
	reasons := map[tables.Reason]int{}
	hosts := []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")}
	peers := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")}
	for i := range 20_000 {
		step := 400
		if i%2000 < 1000 { // faster than anything expires
			step = 10
		}
		p.clock(p.twin.NS + uint64(r.IntN(step))*1_000_000)
		family := r.IntN(2)
		g := pathtest.Segment{Src: netip.AddrPortFrom(hosts[family], uint16(r.IntN(150)+1)), Dst: netip.AddrPortFrom(peers[family], uint16(r.IntN(3)+1)), Seq: r.Uint32(), Flags: pathtest.SYN}
		side := tables.Out
		if c := p.twin.Conns[tables.Ends{Host: g.Src, Peer: g.Dst}]; c != nil {
			switch r.IntN(5) {
			case 0:
				side, g.Flags, g.Seq, g.Ack = tables.In, pathtest.RST|pathtest.ACK, c.AckHi, c.OutNext
			case 1:
				side, g.Flags, g.Ack = tables.In, pathtest.SYN|pathtest.ACK, c.OutNext
			case 2:
				g.Flags, g.Seq, g.Ack = pathtest.RST|pathtest.ACK, c.OutNext-c.Out, c.InNext+c.In
			}
		}
		if side == tables.In {
			g.Src, g.Dst = g.Dst, g.Src
		}
		why, _ := p.judge(side, g.Frame())
		reasons[why]++
		if i%200 == 199 {
			p.compare()
		}
	}
	p.compare()
	var kernel tables.Sweeps
	p.check(p.wire.objects.Sweeps.Lookup(uint32(0), &kernel))
	same(p, "sweeps", kernel, p.twin.Sweeps)
	if reasons[tables.TableFull] == 0 || kernel.Conns4 == 0 || kernel.Conns6 == 0 {
		t.Errorf("the tables were not full, or not swept: %v, %+v", reasons, kernel)
	}
}

// TestExpiredStopsGiveWay fills the table of stops, at first with ones in force and
// then with expired ones: a new coarse block takes their place.
func TestExpiredStopsGiveWay(t *testing.T) {
	s := tables.DefaultSettings()
	s.CoarseResets = 1
	p := newPair(t, s)
	p.clock(100_000_000_000)
	for i := range p.wire.objects.Stops.MaxEntries() {
		k := tables.Principals{Peer: tables.Prefix(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 128), Proto: 17}
		p.check(p.wire.objects.Stops.Put(stopKeyOf(k), tables.Stop{Until: 150_000}))
	}
	refuse := func(port uint16) {
		g := pathtest.Segment{Src: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.5"), port), Dst: netip.MustParseAddrPort("192.0.2.1:80"), Seq: 1, Flags: pathtest.SYN}
		p.judge(tables.Out, g.Frame())
		c := p.twin.Conns[tables.Ends{Host: g.Src, Peer: g.Dst}]
		g.Src, g.Dst, g.Flags, g.Ack = g.Dst, g.Src, pathtest.RST|pathtest.ACK, c.OutNext
		p.judge(tables.In, g.Frame())
	}
	count := func() uint64 {
		sum, err := p.wire.Counters()
		p.check(err)
		return sum[tables.CoarseBlock]
	}
	refuse(1)
	if n := count(); n != 0 {
		t.Fatalf("%d coarse blocks in a full table", n)
	}
	clear(p.twin.Stops)
	p.clock(200_000_000_000)
	refuse(2)
	if n := count(); n != 1 {
		t.Errorf("%d coarse blocks after the programs swept, want 1", n)
	}
}
