package stream

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/packet"
)

var (
	client = netip.MustParseAddrPort("198.51.100.7:40000")
	server = netip.MustParseAddrPort("203.0.113.80:80")
)

// transcript is a Handler that writes down what it is told: data as it is,
// gaps as <n>.
type transcript struct {
	text   [2]bytes.Buffer
	closed []CloseReason
}

func (h *transcript) Data(dir Direction, b []byte) { h.text[dir].Write(b) }
func (h *transcript) Gap(dir Direction, n int64)   { fmt.Fprintf(&h.text[dir], "<%d>", n) }
func (h *transcript) Close(why CloseReason)        { h.closed = append(h.closed, why) }
func (h *transcript) String() string               { return h.text[0].String() + "|" + h.text[1].String() }
func segment(from netip.AddrPort, seq, ack uint32, flags flow.TCPFlags, data string) *packet.Packet {
	to := server
	if from == server {
		to = client
	}
	return &packet.Packet{
		Proto: flow.TCP, Decoded: true,
		Src: from.Addr(), SrcPort: from.Port(), Dst: to.Addr(), DstPort: to.Port(),
		Seq: seq, Ack: ack, Flags: flags, Payload: []byte(data), PayloadLen: len(data),
	}
}

// run feeds segments a millisecond apart and returns all transcripts in the
// order in which connections began.
func run(config Configuration, segments ...*packet.Packet) (*Assembler, []*transcript) {
	config.IgnoreChecksums = true
	var all []*transcript
	a := New(config, func(Key) Handler {
		all = append(all, new(transcript))
		return all[len(all)-1]
	})
	for i, s := range segments {
		a.Packet(flow.Time(i)*1e6, s)
	}
	return a, all
}

func TestStreams(t *testing.T) {
	syn := segment(client, 999, 0, flow.SYN, "")
	synAck := segment(server, 4999, 1000, flow.SYN|flow.ACK, "")
	c := func(seq uint32, data string) *packet.Packet { return segment(client, seq, 5000, flow.ACK, data) }
	ack := func(n uint32) *packet.Packet { return segment(server, 5000, n, flow.ACK, "") }
	for _, tc := range []struct {
		name     string
		segments []*packet.Packet
		want     string
		closed   string
	}{
		{"in order", []*packet.Packet{syn, synAck, c(1000, "abc"), c(1003, "def")}, "abcdef|", "[]"},
		{"late", []*packet.Packet{syn, synAck, c(1003, "def"), c(1000, "abc")}, "abcdef|", "[]"},
		{"twice", []*packet.Packet{syn, synAck, c(1000, "abc"), c(1000, "abc"), c(1003, "d")}, "abcd|", "[]"},
		{"first byte seen wins", []*packet.Packet{syn, synAck, c(1002, "XY"), c(1000, "abcdef")}, "abXYef|", "[]"},
		{"two holes filled at once", []*packet.Packet{syn, synAck, c(1001, "B"), c(1003, "D"), c(1000, "abcde")}, "aBcDe|", "[]"},
		{"a hole is given up when acknowledged", []*packet.Packet{syn, synAck, c(1005, "fg"), ack(1007)}, "<5>fg|", "[]"},
		{"acknowledged and never seen", []*packet.Packet{syn, synAck, c(1000, "ab"), ack(1010), c(1010, "k")}, "ab<8>k|", "[]"},
		{"what comes after its gap is dropped", []*packet.Packet{syn, synAck, c(1003, "d"), ack(1004), c(1000, "abc"), c(1004, "e")}, "<3>de|", "[]"},
		{"seen from the middle", []*packet.Packet{c(77, "abc"), segment(server, 5000, 80, flow.ACK, "xyz")}, "abc|xyz", "[]"},
		{"SYN missed", []*packet.Packet{synAck, c(1000, "abc")}, "abc|", "[]"},
		{"data on the SYN", []*packet.Packet{segment(client, 999, 0, flow.SYN, "ab"), c(1002, "c")}, "abc|", "[]"},
		{"finished", []*packet.Packet{syn, synAck, segment(client, 1000, 5000, flow.ACK|flow.FIN, "ab"), segment(server, 5000, 1003, flow.ACK|flow.FIN, "")}, "ab|", "[finished]"},
		{"data after the FIN came", []*packet.Packet{syn, synAck, segment(client, 1002, 5000, flow.ACK|flow.FIN, ""), segment(server, 5000, 1000, flow.ACK|flow.FIN, ""), c(1000, "ab")}, "ab|", "[finished]"},
		{"reset", []*packet.Packet{syn, synAck, c(1003, "d"), segment(server, 5000, 1000, flow.RST|flow.ACK, "")}, "<3>d|", "[reset]"},
		{"a RST from nowhere is not believed", []*packet.Packet{syn, synAck, segment(server, 900_000_000, 0, flow.RST, ""), c(1000, "a")}, "a|", "[]"},
		{"data from nowhere is not believed", []*packet.Packet{syn, synAck, c(900_000_000, "evil"), c(1000, "a")}, "a|", "[]"},
		{"sequence numbers wrap", []*packet.Packet{segment(client, 0xfffffffd, 0, flow.SYN, ""), c(0xfffffffe, "ab"), c(2, "ef"), c(0, "cd")}, "abcdef|", "[]"},
		{"keep-alive", []*packet.Packet{syn, synAck, c(1000, "ab"), c(1001, "\x00"), c(1002, "c")}, "abc|", "[]"},
		{"cut by the capture", []*packet.Packet{syn, synAck, cut(c(1000, "ab"), 10), ack(1010), c(1010, "k")}, "ab<8>k|", "[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, all := run(DefaultConfiguration(), tc.segments...)
			if len(all) != 1 {
				t.Fatalf("%d connections", len(all))
			}
			if got := all[0].String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if got := fmt.Sprint(all[0].closed); got != tc.closed {
				t.Errorf("closed %v, want %v", got, tc.closed)
			}
		})
	}
}

// cut makes p a packet of which the capture holds only the beginning.
func cut(p *packet.Packet, onWire int) *packet.Packet {
	p.PayloadLen = onWire
	return p
}

func TestPortsUsedAgain(t *testing.T) {
	_, all := run(DefaultConfiguration(),
		segment(client, 999, 0, flow.SYN, ""), segment(client, 1000, 0, flow.ACK, "old"),
		segment(client, 50_000, 0, flow.SYN, ""), segment(client, 50_001, 0, flow.ACK, "new"))
	if len(all) != 2 || all[0].String() != "old|" || all[1].String() != "new|" || fmt.Sprint(all[0].closed) != "[reused]" {
		t.Errorf("got %v", all)
	}
}

func TestRemainsOfAConnectionBeginNone(t *testing.T) {
	_, all := run(DefaultConfiguration(), segment(client, 1, 1, flow.ACK, ""), segment(client, 1, 1, flow.FIN|flow.ACK, ""),
		segment(server, 1, 1, flow.RST, ""))
	if len(all) != 0 {
		t.Errorf("%d connections", len(all))
	}
}

func TestIdleAndEvicted(t *testing.T) {
	config := DefaultConfiguration()
	config.MaxConnections = 2
	var closed []string
	a := New(config, func(k Key) Handler { return closing{k, &closed} })
	for i := range 3 {
		p := segment(client, 1, 0, flow.SYN, "")
		p.SrcPort += uint16(i)
		a.Packet(flow.Time(i)*1e9, p)
	}
	a.Advance(flow.Time(config.IdleTimeout) + 1e9)
	a.Flush()
	if got := strings.Join(closed, " "); got != "40000:evicted 40001:idle 40002:flushed" || a.Evicted != 1 {
		t.Errorf("got %q, %d evicted", got, a.Evicted)
	}
}

// closing is a Handler that notes how connections end.
type closing struct {
	key Key
	log *[]string
}

func (h closing) Data(Direction, []byte) {}
func (h closing) Gap(Direction, int64)   {}
func (h closing) Close(why CloseReason) {
	*h.log = append(*h.log, fmt.Sprintf("%d:%v", h.key.Client.Port(), why))
}

func TestWaitingDataIsBounded(t *testing.T) {
	config := DefaultConfiguration()
	config.MaxWaiting, config.MaxWaitingTotal = 1000, 1500
	segments := []*packet.Packet{segment(client, 0, 0, flow.SYN, "")}
	for i := range 200 { // every other ten bytes
		segments = append(segments, segment(client, uint32(11+i*20), 0, flow.ACK, "0123456789"))
	}
	a, all := run(config, segments...)
	if a.Waiting() > 1000 {
		t.Errorf("%d bytes wait", a.Waiting())
	}
	a.Flush()
	if want := strings.Repeat("<10>0123456789", 200) + "|"; all[0].String() != want {
		t.Errorf("got %q", all[0].String())
	}
	if a.Waiting() != 0 || a.Open() != 0 {
		t.Errorf("%d bytes and %d connections after Flush", a.Waiting(), a.Open())
	}
}
