package packets

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"dragnet/flow"
	"dragnet/packet"

	"pgregory.net/rapid"
)

// session is a whole TCP connection as two hosts would have it: what they
// send, in an order that the wire allows.
func session(rng *rand.Rand, sizes [2][]int, isn [2]uint32) (packets []*packet.Packet) {
	ends := [2]netip.AddrPort{alice, bob}
	next := [2]uint32{isn[0] + 1, isn[1] + 1}
	send := func(who int, flags flow.TCPFlags, n int) {
		packets = append(packets, tcpPacket(ends[who], ends[who^1], next[who], next[who^1], flags, n))
		next[who] += uint32(n)
	}
	packets = append(packets, tcpPacket(alice, bob, isn[0], 0, flow.SYN, 0), tcpPacket(bob, alice, isn[1], isn[0]+1, flow.SYN|flow.ACK, 0))
	send(0, flow.ACK, 0)
	for len(sizes[0])+len(sizes[1]) > 0 {
		who := rng.IntN(2)
		if len(sizes[who]) == 0 {
			who ^= 1
		}
		send(who, flow.ACK|flow.PSH, sizes[who][0])
		send(who^1, flow.ACK, 0)
		sizes[who] = sizes[who][1:]
	}
	for _, who := range []int{0, 1} {
		send(who, flow.ACK|flow.FIN, 0)
		next[who]++
	}
	send(0, flow.ACK, 0)
	return packets
}

// TestWholeSessions: whatever two hosts say to each other, a capture without
// loss yields one finished flow with every byte.
func TestWholeSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []int {
			return rapid.SliceOfN(rapid.IntRange(1, 1460), 0, 20).Draw(t, name)
		}
		sizes := [2][]int{draw("requests"), draw("replies")}
		var want [2]uint64
		for i := range sizes {
			for _, n := range sizes[i] {
				want[i] += uint64(n)
			}
		}
		isn := [2]uint32{rapid.Uint32().Draw(t, "isn"), rapid.Uint32().Draw(t, "other isn")}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		packets := session(rng, [2][]int{slices.Clone(sizes[0]), slices.Clone(sizes[1])}, isn)
		a := new(recorder)
		a.Assembler = New(DefaultConfiguration(), func(f *flow.Flow) { a.flows = append(a.flows, *f) })
		var counted [2]uint64
		for i, p := range packets {
			if p.Src == alice.Addr() {
				counted[0]++
			} else {
				counted[1]++
			}
			a.Packet(flow.Time(i)*1e6, p)
		}
		a.Flush()
		if len(a.flows) != 1 {
			t.Fatalf("%d flows: %s", len(a.flows), brief(a.flows))
		}
		f := a.flows[0]
		if f.State != flow.SF || f.OrigBytes != want[0] || f.RespBytes != want[1] || f.MissedBytes != 0 || f.Orig != alice.Addr() ||
			f.OrigPkts != counted[0] || f.RespPkts != counted[1] || f.OrigISN != isn[0] || f.RespISN != isn[1] {
			t.Fatalf("got %+v, want %v bytes and %v packets", f, want, counted)
		}
	})
}

// TestLostSegmentsAreMissed drops data segments from a session: their bytes are
// stated as missed, and everything else stays.
func TestLostSegmentsAreMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := [2][]int{rapid.SliceOfN(rapid.IntRange(1, 1460), 2, 10).Draw(t, "requests"), {500}}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		packets := session(rng, [2][]int{slices.Clone(sizes[0]), {500}}, [2]uint32{rapid.Uint32().Draw(t, "isn"), 9})
		var sent, lost uint64
		a := new(recorder)
		a.Assembler = New(DefaultConfiguration(), func(f *flow.Flow) { a.flows = append(a.flows, *f) })
		for i, p := range packets {
			sent += uint64(p.PayloadLen)
			if p.PayloadLen > 0 && p.Src == alice.Addr() && rapid.Bool().Draw(t, "lost") {
				lost += uint64(p.PayloadLen)
				continue
			}
			a.Packet(flow.Time(i)*1e6, p)
		}
		a.Flush()
		if f := a.flows[0]; len(a.flows) != 1 || f.State != flow.SF || f.MissedBytes != lost || f.OrigBytes+f.RespBytes != sent {
			t.Fatalf("%d lost: %+v", lost, a.flows)
		}
	})
}

// FuzzAssembler plays steps of eight bytes between two hosts and holds the
// flows to what must be true of any: every packet is in exactly one, and the
// table stays within its bound.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{0, 0, 2, 100, 0, 0, 0, 1, 1, 0, 18, 200, 101, 0, 0, 1, 0, 0, 16, 101, 201, 9, 0, 1, 0, 0, 17, 110, 201, 0, 0, 1})
	f.Add([]byte{64, 0, 0, 0, 0, 90, 0, 1, 65, 0, 0, 0, 0, 90, 0, 200, 64, 0, 0, 0, 0, 90, 1, 255})
	f.Fuzz(func(t *testing.T, steps []byte) {
		config := DefaultConfiguration()
		config.MaxFlows = 8
		var inFlows, taken uint64
		a := New(config, func(f *flow.Flow) {
			inFlows += f.OrigPkts + f.RespPkts
			if f.Duration < 0 || f.State == flow.StateUnknown || len(f.History) > maxHistory || f.Orig == f.Resp {
				t.Errorf("got %+v", f)
			}
		})
		now := flow.Time(1e18)
		for ; len(steps) >= 8; steps = steps[8:] {
			s := steps[:8]
			now += flow.Time(s[7]) * flow.Time(s[7]) * 1e7 // up to 11 minutes
			if s[6] == 255 {
				now -= 30e9
			}
			ends := [2]netip.AddrPort{netip.AddrPortFrom(alice.Addr(), uint16(s[1]%20)), netip.AddrPortFrom(bob.Addr(), 80)}
			from, to := ends[s[0]&1], ends[s[0]&1^1]
			var p *packet.Packet
			switch s[0] >> 6 {
			case 0, 1:
				seq := uint32(s[3])<<(s[6]%25) - 1000
				p = tcpPacket(from, to, seq, uint32(s[4])<<(s[6]%25)-1000, flow.TCPFlags(s[2]), int(s[5])*5)
				p.Window = uint16(s[6])
			case 2:
				p = udpPacket(from, to, int(s[5]))
			default:
				p = udpPacket(from, to, int(s[5]))
				p.Proto, p.ICMPType, p.ICMPCode = flow.ICMP, s[2]%20, s[3]
			}
			if a.Packet(now, p) == nil {
				taken++
			}
			if a.Open() > config.MaxFlows || len(a.conns) != a.Open() {
				t.Fatalf("%d flows held, %d by name", a.Open(), len(a.conns))
			}
		}
		a.Flush()
		if a.Open() != 0 || inFlows != taken {
			t.Errorf("%d packets in flows, %d taken in, %d flows left", inFlows, taken, a.Open())
		}
	})
}
