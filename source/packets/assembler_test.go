package packets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"dragnet/flow"
	"dragnet/packet"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	alice = netip.MustParseAddrPort("198.51.100.7:40000")
	bob   = netip.MustParseAddrPort("203.0.113.80:80")
)

// tcpPacket is a segment as decoded from 40 octets of headers and n of data.
func tcpPacket(from, to netip.AddrPort, seq, ack uint32, flags flow.TCPFlags, n int) *packet.Packet {
	return &packet.Packet{
		Proto: flow.TCP, Decoded: true, IPLen: 40 + n,
		Src: from.Addr(), SrcPort: from.Port(), Dst: to.Addr(), DstPort: to.Port(),
		Seq: seq, Ack: ack, Flags: flags, Window: 1000, Payload: make([]byte, n), PayloadLen: n,
	}
}

func udpPacket(from, to netip.AddrPort, n int) *packet.Packet {
	return &packet.Packet{
		Proto: flow.UDP, Decoded: true, IPLen: 28 + n,
		Src: from.Addr(), SrcPort: from.Port(), Dst: to.Addr(), DstPort: to.Port(),
		Payload: make([]byte, n), PayloadLen: n,
	}
}

// step is a packet, or nothing, at a time in seconds.
type step struct {
	at float64
	p  *packet.Packet
}

// recorder is an Assembler with the flows that ended, in their order.
type recorder struct {
	*Assembler
	flows []flow.Flow
}

// play assembles steps.
func play(t testing.TB, config Configuration, steps ...step) *recorder {
	t.Helper()
	r := new(recorder)
	r.Assembler = New(config, func(f *flow.Flow) { r.flows = append(r.flows, *f) })
	for _, s := range steps {
		ts := flow.Time(s.at * 1e9)
		if s.p == nil {
			r.Advance(ts)
			continue
		}
		if err := r.Packet(ts, s.p); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// brief is "state history orig>resp packets/packets" of each flow.
func brief(flows []flow.Flow) string {
	var s []string
	for _, f := range flows {
		s = append(s, fmt.Sprintf("%v %s %d>%d %d/%d", f.State, f.History, f.OrigPort, f.RespPort, f.OrigPkts, f.RespPkts))
	}
	return strings.Join(s, ", ")
}

func TestFlowsEndInTime(t *testing.T) {
	const SA = flow.SYN | flow.ACK
	syn := tcpPacket(alice, bob, 100, 0, flow.SYN, 0)
	synAck := tcpPacket(bob, alice, 500, 101, SA, 0)
	ack := tcpPacket(alice, bob, 101, 501, flow.ACK, 0)
	fin := tcpPacket(alice, bob, 101, 501, flow.ACK|flow.FIN, 0)
	finAck := tcpPacket(bob, alice, 501, 102, flow.ACK|flow.FIN, 0)
	ssh := netip.AddrPortFrom(bob.Addr(), 22)
	dns := netip.AddrPortFrom(bob.Addr(), 53)
	other := netip.AddrPortFrom(bob.Addr(), 4444)
	for _, c := range []struct {
		name  string
		steps []step
		want  string // flows ended by themselves
		open  int    // flows still held
	}{
		{"a SYN waits five seconds", []step{{0, syn}, {4.9, nil}}, "", 1},
		{"then it is a failed attempt", []step{{0, syn}, {5, nil}}, "S0 S 40000>80 1/0", 0},
		{"retries within that are the same", []step{{0, syn}, {1, syn}, {3, syn}, {5, nil}}, "S0 S 40000>80 3/0", 0},
		{"later ones another", []step{{0, syn}, {1, syn}, {7, syn}, {13, nil}}, "S0 S 40000>80 2/0, S0 S 40000>80 1/0", 0},
		{"an idle connection lasts five minutes", []step{{0, syn}, {0, synAck}, {0, ack}, {299, nil}}, "", 1},
		{"and no longer", []step{{0, syn}, {0, synAck}, {0, ack}, {300, nil}}, "S1 ShA 40000>80 2/1", 0},
		{"to an interactive port an hour", []step{{0, tcpPacket(alice, ssh, 100, 0, flow.SYN, 0)}, {0, tcpPacket(ssh, alice, 500, 101, SA, 0)}, {3599, nil}}, "", 1},
		{"and no longer either", []step{{0, tcpPacket(alice, ssh, 100, 0, flow.SYN, 0)}, {0, tcpPacket(ssh, alice, 500, 101, SA, 0)}, {3600, nil}}, "S1 Sh 40000>22 1/1", 0},
		{"a closed one waits for stragglers", []step{{0, syn}, {0, synAck}, {0, ack}, {1, fin}, {1, finAck}, {5.9, nil}}, "", 1},
		{"for five seconds", []step{{0, syn}, {0, synAck}, {0, ack}, {1, fin}, {1, finAck}, {6, nil}}, "SF ShAFf 40000>80 3/2", 0},
		{"a refused one too", []step{{0, syn}, {0, tcpPacket(bob, alice, 0, 101, flow.RST|flow.ACK, 0)}, {5, nil}}, "REJ Sr 40000>80 1/1", 0},
		{"half closed, the other side never closes", []step{{0, syn}, {0, synAck}, {0, ack}, {1, fin}, {300, nil}}, "", 1},
		{"a datagram lasts a minute", []step{{0, udpPacket(alice, other, 9)}, {59, nil}}, "", 1},
		{"and no longer, again", []step{{0, udpPacket(alice, other, 9)}, {30, udpPacket(other, alice, 9)}, {90, nil}}, "SF Dd 40000>4444 1/1", 0},
		{"names ten seconds", []step{{0, udpPacket(alice, dns, 9)}, {0.1, udpPacket(dns, alice, 9)}, {10, nil}}, "SF Dd 40000>53 1/1", 0},
		{"ports used again", []step{{0, syn}, {0, synAck}, {0, ack}, {1, fin}, {1, finAck}, {2, tcpPacket(alice, bob, 9000, 0, flow.SYN, 0)}}, "SF ShAFf 40000>80 3/2", 1},
		{"another recording", []step{{100000, syn}, {100001, synAck}, {5, ack}}, "S1 Sh 40000>80 1/1", 1},
		{"packets a little out of order", []step{{50, syn}, {49.9, synAck}, {50.1, ack}}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := play(t, DefaultConfiguration(), c.steps...)
			if got := brief(a.flows); got != c.want || a.Open() != c.open {
				t.Errorf("got %q and %d open, want %q and %d", got, a.Open(), c.want, c.open)
			}
			a.Flush()
			if a.Open() != 0 {
				t.Errorf("%d open after Flush", a.Open())
			}
		})
	}
}

func TestFieldsOfAConnection(t *testing.T) {
	a := play(t, DefaultConfiguration(),
		step{10, tcpPacket(alice, bob, 0xfffffff0, 0, flow.SYN, 0)},
		step{10.1, tcpPacket(bob, alice, 77, 0xfffffff1, flow.SYN|flow.ACK, 0)},
		step{10.2, tcpPacket(alice, bob, 0xfffffff1, 78, flow.ACK|flow.PSH, 100)}, // wraps
		step{10.3, tcpPacket(bob, alice, 78, 0x55, flow.ACK, 300)},
		step{10.5, tcpPacket(alice, bob, 0x55, 378, flow.ACK|flow.FIN, 0)},
	)
	a.Flush()
	want := flow.Flow{
		Start: 10e9, Duration: 500 * time.Millisecond,
		Orig: alice.Addr(), Resp: bob.Addr(), OrigPort: 40000, RespPort: 80,
		Proto: flow.TCP, State: flow.S2, History: "ShDdF",
		OrigFlags: flow.SYN | flow.ACK | flow.PSH | flow.FIN, RespFlags: flow.SYN | flow.ACK,
		Known: flow.AllColumns, Sampling: 1,
		OrigISN: 0xfffffff0, RespISN: 77,
		OrigBytes: 100, RespBytes: 300, OrigPkts: 3, RespPkts: 2, OrigIPBytes: 220, RespIPBytes: 380,
	}
	if diff := cmp.Diff([]flow.Flow{want}, a.flows, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestFloodEvictsAttempts fills the table with SYNs: the established
// connection must outlive them.
func TestFloodEvictsAttempts(t *testing.T) {
	config := DefaultConfiguration()
	config.MaxFlows = 100
	a := play(t, config,
		step{0, tcpPacket(alice, bob, 100, 0, flow.SYN, 0)},
		step{0, tcpPacket(bob, alice, 500, 101, flow.SYN|flow.ACK, 0)},
		step{0, tcpPacket(alice, bob, 101, 501, flow.ACK, 0)})
	for i := range 1000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		a.Packet(1e9, tcpPacket(from, bob, 1, 0, flow.SYN, 0))
	}
	if a.Open() != 100 || a.Evicted != 901 || len(a.flows) != 901 {
		t.Errorf("%d open, %d evicted, %d flows", a.Open(), a.Evicted, len(a.flows))
	}
	a.Packet(2e9, tcpPacket(alice, bob, 101, 501, flow.ACK, 10))
	a.Flush()
	if n := slices.IndexFunc(a.flows, func(f flow.Flow) bool { return f.State == flow.S1 && f.History == "ShAD" }); n < 901 {
		t.Errorf("the established connection was flow %d of %s", n, brief(a.flows))
	}
}

// TestHistoryIsBounded sends RSTs at ever new places.
func TestHistoryIsBounded(t *testing.T) {
	a := play(t, DefaultConfiguration(), step{0, tcpPacket(alice, bob, 100, 0, flow.SYN, 0)}, step{0, tcpPacket(bob, alice, 500, 101, flow.SYN|flow.ACK, 0)})
	for i := range 10_000 {
		a.Packet(0, tcpPacket(alice, bob, 101+uint32(i), 501, flow.FIN|flow.ACK, 0))
	}
	a.Flush()
	if n := len(a.flows[0].History); n != maxHistory {
		t.Errorf("history of %d letters", n)
	}
}

func TestSizeOfAFlow(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 640 {
		t.Errorf("a flow takes %d bytes; correct Configuration.MaxFlows", n)
	}
}
