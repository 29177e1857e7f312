package guard

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/contain/guard/tc"
	"dragnet/daw"
	"dragnet/flow"
	"dragnet/packet"
)

// pair is two edges of one customer network that pass replies on.
func pair(t *testing.T) [2]*edge {
	t.Helper()
	var all [2]*edge
	for i := range all {
		all[i] = newEdge(t, func(c *Configuration) {
			c.Edges = EdgesConfiguration{netip.MustParseAddrPort("192.0.2.1:9125"), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:9125")}, "key"}
		})
	}
	return all
}

// A scanner whose requests leave by one edge and whose refusals come by another is
// held to its limit, as is one that changes edges: the total is that of one edge.
func TestRepliesByAnotherEdge(t *testing.T) {
	for name, out := range map[string]func(n int) int{"one way": func(int) int { return 0 }, "in turn": func(n int) int { return n % 2 }} {
		edges := pair(t)
		passed := 0
		for n := range 20_000 {
			now := monday + flow.Time(n)*second
			a, b := edges[out(n)], edges[1-out(n)]
			syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: addr(0, 1), Dst: netip.AddrFrom4([4]byte{20, byte(n >> 8), byte(n), 1}), SrcPort: uint16(n), DstPort: 80, Seq: uint32(n)}
			if !a.Packet(now, &syn, Path{Inside: true}) {
				continue
			}
			passed++
			b.Packet(now, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: syn.Dst, Dst: syn.Src, SrcPort: 80, DstPort: syn.SrcPort, Ack: syn.Seq + 1}, Path{Outside: true})
			for i := range edges {
				all, _ := edges[i].takeElsewhere()
				edges[1-i].takeShared(now, all)
			}
		}
		if passed > 600 || passed < 100 {
			t.Errorf("%s: %d of 20000 scans pass; want at most 2*omega", name, passed)
		}
	}
}

// What answers at another edge is no silence; and while that edge is not heard,
// nothing is.
func TestSilenceWithAnotherEdge(t *testing.T) {
	for _, heard := range []bool{true, false} {
		edges := pair(t)
		for n := range 2000 {
			now := monday + flow.Time(n)*second
			syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: addr(0, 1), Dst: netip.AddrFrom4([4]byte{20, byte(n >> 8), byte(n), 1}), SrcPort: uint16(n), DstPort: 80, Seq: uint32(n)}
			near := syn // whose answers come here, so that silence means something
			near.Src, near.Dst = addr(0, 2), addr(200, 1)
			for _, p := range []*packet.Packet{&syn, &near} {
				if !edges[0].Packet(now, p, Path{Inside: true}) {
					t.Fatalf("heard %v: request %d is dropped", heard, n)
				}
			}
			answer := func(p *packet.Packet) *packet.Packet {
				return &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN | flow.ACK, Src: p.Dst, Dst: p.Src, SrcPort: 80, DstPort: p.SrcPort, Ack: p.Seq + 1}
			}
			edges[0].Packet(now, answer(&near), Path{Outside: true})
			edges[1].Packet(now, answer(&syn), Path{Outside: true})
			if all, _ := edges[1].takeElsewhere(); heard {
				edges[0].takeShared(now, all)
			} else {
				edges[0].deaf(now)
			}
		}
	}
}

// Unsolicited replies are passed on in bounded number, and the others
// learn that some were left out.
func TestFloodOfRepliesIsBounded(t *testing.T) {
	edges := pair(t)
	for n := range 3 * maxElsewhere {
		edges[0].Packet(monday, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: addr(99, 1), Dst: addr(0, 1), SrcPort: 80, DstPort: uint16(n), Ack: uint32(n)}, Path{Outside: true})
	}
	all, leftOut := edges[0].takeElsewhere()
	if len(all) != maxElsewhere || !leftOut || edges[0].Stats().Unshared != 2*maxElsewhere {
		t.Errorf("%d passed on, left out %v, %d counted", len(all), leftOut, edges[0].Stats().Unshared)
	}
}

func testLink(t testing.TB, listen string, peers ...string) *edgeLink {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	c := EdgesConfiguration{Listen: netip.MustParseAddrPort(listen), Key: key}
	for _, p := range peers {
		c.Peers = append(c.Peers, netip.MustParseAddrPort(p))
	}
	l, err := openLink(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

var someReplies = []edgeReply{
	{tc.Success, daw.Conn{Src: addr(0, 1), Dst: addr(1, 2), SrcPort: 1, DstPort: 80, Seq: 1 << 31}},
	{tc.Unreachable, daw.Conn{Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::2"), SrcPort: 9, DstPort: 443, Seq: 7}},
}

func TestDatagramsOfEdges(t *testing.T) {
	l := testLink(t, "127.0.0.1:0", "127.0.0.1:9")
	l.number = 4
	b := l.seal(monday, someReplies)
	sent, number, all, err := l.open(l.self, b)
	if err != nil || sent != monday || number != 4 || len(all) != 2 || all[0] != someReplies[0] || all[1] != someReplies[1] {
		t.Fatalf("%v %d %+v %v", sent, number, all, err)
	}
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		if _, _, _, err := l.open(l.self, changed); err == nil {
			t.Fatalf("a datagram with octet %d changed is taken", i)
		}
	}
	if _, _, _, err := l.open(l.peers[0], b); err == nil {
		t.Error("a datagram that comes back is taken for a peer's")
	}
	for _, c := range []struct {
		sent     flow.Time
		number   uint64
		ok, lost bool
	}{{1, 1, true, false}, {2, 2, true, false}, {2, 3, true, false}, {2, 3, false, false}, {1, 2, false, false}, {5, 5, true, true}, {9, 1, true, true}} {
		l.lost.Store(0)
		if ok := l.note(monday, 0, c.sent, c.number); ok != c.ok || l.lost.Load() != 0 != c.lost {
			t.Errorf("%+v: taken %v, lost %v", c, ok, l.lost.Load() != 0)
		}
	}
	if deaf, missing := l.isDeaf(monday + second); !deaf || len(missing) != 0 { // some were lost just now
		t.Error("not deaf after a loss")
	}
	if deaf, missing := l.isDeaf(monday + 10*second); !deaf || len(missing) != 1 {
		t.Error("a peer that is silent is not missing")
	}
}

func FuzzOpenDatagram(f *testing.F) {
	l := testLink(f, "127.0.0.1:0", "127.0.0.1:9")
	b := l.seal(monday, someReplies)
	f.Add(b[:len(b)-32])
	f.Add([]byte(datagramHead))
	f.Fuzz(func(t *testing.T, body []byte) {
		whole := append(bytes.Clone(body), l.mac(l.self, body)...)
		sent, number, all, err := l.open(l.self, whole)
		if err != nil {
			return
		}
		l.number = number
		if again := l.seal(sent, all); !bytes.Equal(again, whole) {
			t.Errorf("%x\nencoded again: %x", whole, again)
		}
	})
}

func TestEdgesMistakes(t *testing.T) {
	at := netip.MustParseAddrPort
	one := at("192.0.2.1:9125")
	for say, c := range map[string]EdgesConfiguration{
		"peers":    {Listen: one},
		"listen":   {Peers: []netip.AddrPort{at("192.0.2.2:1")}, Key: "k"},
		"key":      {Listen: one, Peers: []netip.AddrPort{at("192.0.2.2:1")}},
		"peers[0]": {Listen: one, Peers: []netip.AddrPort{one}, Key: "k"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v", say, err)
		}
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLink(EdgesConfiguration{Listen: at("127.0.0.1:0"), Key: short}); err == nil || !strings.Contains(err.Error(), "at least 32") {
		t.Error(err)
	}
}
