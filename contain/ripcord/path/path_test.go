package path_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"dragnet/contain/ripcord/path"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/state"
	"dragnet/packet"
)

const (
	fin = pathtest.FIN
	syn = pathtest.SYN
	rst = pathtest.RST
	ack = pathtest.ACK
)

// story is a gateway and one connection through it, seen from both ends.
type story struct {
	t          testing.TB
	p          *path.Path
	host, peer netip.AddrPort
}

func newStory(t testing.TB) *story {
	p := path.New(state.DefaultSettings())
	p.Secret, p.Budget, p.NS = [2]uint64{1, 2}, [2]int32{1, 4}, 5e9
	return &story{t, p, netip.MustParseAddrPort("10.0.0.5:40000"), netip.MustParseAddrPort("192.0.2.1:80")}
}

func (s *story) conn() *state.Conn { return s.p.Conns[state.Ends{Host: s.host, Peer: s.peer}] }

func (s *story) pass(seconds float64) { s.p.NS += uint64(seconds * 1e9) }

// send sends a segment and wants it judged; what came out is returned.
func (s *story) send(side state.Side, want state.Reason, flags uint8, seq, ack uint32, payload string) (outSeq, outAck uint32) {
	s.t.Helper()
	g := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: seq, Ack: ack, Flags: flags, Payload: []byte(payload)}
	if side == state.In {
		g.Src, g.Dst = g.Dst, g.Src
	}
	frame := g.Frame()
	if why, _ := s.p.Judge(side, frame, false); why != want {
		s.t.Fatalf("side %d, flags %#x: %v, want %v; %+v", side, flags, why, want, s.conn())
	}
	return binary.BigEndian.Uint32(frame[14+20+4:]), binary.BigEndian.Uint32(frame[14+20+8:])
}

func (s *story) out(want state.Reason, flags uint8, seq, ack uint32, payload string) (uint32, uint32) {
	s.t.Helper()
	return s.send(state.Out, want, flags, seq, ack, payload)
}

func (s *story) in(want state.Reason, flags uint8, seq, ack uint32, payload string) (uint32, uint32) {
	s.t.Helper()
	return s.send(state.In, want, flags, seq, ack, payload)
}

// open shakes hands; h and p are the next numbers of the host as it counts
// itself and of the peer as it counts, w and q as the other side counts them.
func (s *story) open() (h, w, p, q uint32) {
	s.t.Helper()
	w, _ = s.out(state.PassedOut, syn, 1000, 0, "")
	q, back := s.in(state.PassedIn, syn|ack, 9000, w+1, "")
	if back != 1001 {
		s.t.Fatalf("the peer's acknowledgement comes in as %d, want 1001", back)
	}
	if _, a := s.out(state.PassedOut, ack, 1001, q+1, ""); a != 9001 {
		s.t.Fatalf("the host's acknowledgement leaves as %d, want 9001", a)
	}
	if w == 1000 || q == 9000 {
		s.t.Fatal("nothing was shifted")
	}
	return 1001, w + 1, 9001, q + 1
}

func TestNoncesAreFreshAndCloseTheWay(t *testing.T) {
	seen := map[uint32]bool{}
	for n := range 200 {
		s := newStory(t)
		s.pass(float64(n) / 1000)
		_, w, _, q := s.open()
		if seen[w] || seen[q] {
			t.Fatal("a nonce came twice")
		}
		seen[w], seen[q] = true, true
	}
}

func TestValidRST(t *testing.T) {
	for name, c := range map[string]struct {
		valid bool
		send  func(s *story, h, w, p, q uint32) (flags uint8, seq, ack uint32)
	}{
		"answers the last segment":        {true, func(_ *story, _, _, p, _ uint32) (uint8, uint32, uint32) { return rst, p, 0 }},
		"one beside":                      {false, func(_ *story, _, _, p, _ uint32) (uint8, uint32, uint32) { return rst, p + 1, 0 }},
		"the host's own numbers":          {false, func(_ *story, _, _, _, q uint32) (uint8, uint32, uint32) { return rst, q, 0 }},
		"acknowledges what the host sent": {true, func(_ *story, _, w, p, _ uint32) (uint8, uint32, uint32) { return rst | ack, p + 500, w }},
		"acknowledges the unshifted":      {false, func(_ *story, h, _, p, _ uint32) (uint8, uint32, uint32) { return rst | ack, p + 500, h }},
		"acknowledges what was not sent":  {false, func(_ *story, _, w, p, _ uint32) (uint8, uint32, uint32) { return rst | ack, p + 500, w + 1 }},
		"an acknowledgement of 2 s ago": {true, func(s *story, h, w, p, q uint32) (uint8, uint32, uint32) {
			s.in(state.PassedIn, ack, p, w, "data")
			s.out(state.PassedOut, ack, h, q+4, "")
			s.pass(2)
			return rst, p, 0
		}},
		"an acknowledgement of long ago": {false, func(s *story, h, w, p, q uint32) (uint8, uint32, uint32) {
			s.in(state.PassedIn, ack, p, w, "data")
			s.out(state.PassedOut, ack, h, q+4, "")
			s.pass(7)
			return rst, p, 0
		}},
		"a flooder varies its acknowledgement": {true, func(s *story, h, w, p, q uint32) (uint8, uint32, uint32) {
			s.in(state.PassedIn, ack, p, w, "some data of the peer")
			for n := range uint32(20) {
				s.out(state.PassedOut, ack, h+n, q+n%7, "x")
			}
			return rst, p + 3, 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			h, w, p, q := s.open()
			flags, seq, a := c.send(s, h, w, p, q)
			s.in(state.PassedIn, flags, seq, a, "")
			want := state.PassedOut
			if c.valid {
				want = state.Blocked
			}
			hi := s.conn().AckHi + s.conn().In
			s.out(want, ack, h, hi, "flood")
			if c.valid {
				s.out(state.Blocked, syn, 7777, 0, "")
				s.pass(31)
				s.out(state.Blocked, ack, h, hi, "flood")
				s.out(state.PassedOut, syn, 7777, 0, "")
			}
		})
	}
}

func TestRSTToASYN(t *testing.T) {
	for _, payload := range []string{"", "fast open"} {
		s := newStory(t)
		w, _ := s.out(state.PassedOut, syn, 1000, 0, payload)
		s.in(state.PassedIn, rst|ack, 0, 1001, "") // who did not see the shift
		s.in(state.PassedIn, rst, w+1, 0, "")
		if again, _ := s.out(state.PassedOut, syn, 1000, 0, payload); again != w {
			t.Fatalf("a repeated SYN leaves as %d, then as %d", w, again)
		}
		s.in(state.PassedIn, rst|ack, 0, w+1+uint32(len(payload)), "")
		s.out(state.Blocked, syn, 1000, 0, payload)
	}
}

func TestWhatMayNotLeave(t *testing.T) {
	s := newStory(t)
	s.out(state.NoHandshake, ack, 1, 1, "x")
	w, _ := s.out(state.PassedOut, syn, 1000, 0, "")
	s.out(state.Handshake, ack, 1001, 9001, "agreed numbers, no answer")
	s.in(state.PassedIn, syn|ack, 9000, 1001, "") // of somebody who did not see the SYN
	s.out(state.Handshake, ack, 1001, 9001, "x")
	q, _ := s.in(state.PassedIn, syn|ack, 9000, w+1, "")
	s.out(state.PassedOut, ack, 1001, q+1, "x")
	s.out(state.NoAck, 0, 1001, 0, "x")
	s.out(state.AckRange, ack, 1001, q+2, "x")
	s.out(state.AckRange, ack, 1001, q, "x")
	s.out(state.AckRange, ack, 1001, q+1<<31, "x")
	s.out(state.PassedOut, fin|ack, 1002, q+1, "")
}

func TestRSTsOfTheHostAreBounded(t *testing.T) {
	s := newStory(t)
	h, w, p, q := s.open()
	n := int(s.conn().Credits)
	for range n {
		s.out(state.PassedOut, rst|ack, h, q, "")
	}
	s.out(state.ResetLimit, rst|ack, h, q, "")
	s.out(state.Closed, ack, h, q, "x")
	s.in(state.PassedIn, ack, p, w, "x")
	s.out(state.PassedOut, rst, h, 0, "")
	s.out(state.ResetLimit, rst, h, 0, "")
}

func TestSimultaneousOpen(t *testing.T) {
	s := newStory(t)
	w, _ := s.out(state.PassedOut, syn, 1000, 0, "")
	q, _ := s.in(state.PassedIn, syn, 9000, 0, "")
	if again, a := s.out(state.PassedOut, syn|ack, 1000, q+1, ""); again != w || a != 9001 {
		t.Fatalf("SYN and ACK leave as %d, %d; want %d, 9001", again, a, w)
	}
	s.in(state.PassedIn, syn|ack, 9000, w+1, "")
	s.out(state.PassedOut, ack, 1001, q+1, "data")
}

func TestPortsUsedAgain(t *testing.T) {
	for range 50 {
		s := newStory(t)
		h, w, p, q := s.open()
		s.out(state.PassedOut, fin|ack, h, q, "")
		s.in(state.PassedIn, fin|ack, p, w+1, "")
		s.out(state.PassedOut, ack, h+1, q+1, "")
		if !s.conn().Over() {
			t.Fatalf("the connection is not over: %+v", s.conn())
		}
		s.pass(0.5)
		// The peer is in TIME_WAIT: it takes only what is above (RFC 9293,
		// section 3.10.7.4).
		if again, _ := s.out(state.PassedOut, syn, 77, 0, ""); int32(again-(w+1)) <= 0 {
			t.Fatalf("the next connection begins at %d, the last ended at %d", again, w+1)
		}
	}
}

func TestServerBehindTheGateway(t *testing.T) {
	s := newStory(t)
	s.p.Judge(state.Out, pathtest.ARP(s.host.Addr(), s.peer.Addr()), false)
	q, _ := s.in(state.PassedIn, syn, 9000, 0, "")
	s.out(state.Handshake, ack, 1001, q+1, "too early")
	w, _ := s.out(state.PassedOut, syn|ack, 1000, q+1, "")
	s.in(state.PassedIn, ack, 9001, 1001, "") // did not see our number
	s.out(state.Handshake, ack, 1001, q+1, "too early")
	s.in(state.PassedIn, ack, 9001, w+1, "")
	s.out(state.PassedOut, ack, 1001, q+1, "data")
	s.in(state.PassedIn, rst, 9001, 0, "")
	s.out(state.Blocked, ack, 1005, q+1, "data")
	// The peer itself may begin again.
	q, _ = s.in(state.PassedIn, syn, 5000, 0, "")
	s.out(state.PassedOut, syn|ack, 3000, q+1, "")
}

func TestFastOpenDataBeforeTheHandshake(t *testing.T) {
	s := newStory(t)
	s.p.Judge(state.Out, pathtest.ARP(s.host.Addr(), s.peer.Addr()), false)
	q, _ := s.in(state.PassedIn, syn, 9000, 0, "request")
	w, _ := s.out(state.PassedOut, syn|ack, 1000, q+8, "")
	s.out(state.PassedOut, ack, 1001, q+8, "answer")
	s.in(state.PassedIn, ack, 9008, w+7, "")
	s.out(state.PassedOut, ack, 1007, q+8, "more")
}

// TestReplayEstablishesNothing plays a recorded connection through another
// gateway, as two hosts could who agreed on their numbers.
func TestReplayEstablishesNothing(t *testing.T) {
	s := newStory(t)
	var recorded [][]byte // as they left and came
	record := func(side state.Side, flags uint8, seq, a uint32, payload string) (uint32, uint32) {
		x, y := s.send(side, state.Reason(side), flags, seq, a, payload)
		recorded = append(recorded, pathtest.Segment{Src: s.peer, Dst: s.host, Seq: seq, Ack: a, Flags: flags, Payload: []byte(payload)}.Frame())
		return x, y
	}
	w, _ := s.out(state.PassedOut, syn, 1000, 0, "")
	q, _ := record(state.In, syn|ack, 9000, w+1, "")
	s.out(state.PassedOut, ack, 1001, q+1, "data")

	other := newStory(t)
	other.p.Secret[1]++
	other.out(state.PassedOut, syn, 1000, 0, "")
	for _, f := range recorded {
		other.p.Judge(state.In, bytes.Clone(f), false)
	}
	other.out(state.Handshake, ack, 1001, q+1, "data")
	if other.conn().State != state.Handshaking {
		t.Error("a replay established a connection")
	}
}

func TestFullTableKeepsWhatItHas(t *testing.T) {
	s := newStory(t)
	h, _, p, q := s.open()
	s.p.Room = [2]int{1, 1}
	first := s.host
	s.host = netip.AddrPortFrom(s.host.Addr(), 40001)
	s.out(state.TableFull, syn, 1, 0, "")
	s.host = first
	s.out(state.PassedOut, ack, h, q, "goes on")
	s.in(state.PassedIn, rst, p, 0, "")
	s.host = netip.AddrPortFrom(s.host.Addr(), 40001)
	s.out(state.TableFull, syn, 1, 0, "")
	s.host = first
	s.out(state.Blocked, ack, h, q, "still")
}

func TestSignedSegments(t *testing.T) {
	md5 := append([]byte{1, 1, 19, 18}, make([]byte, 16)...)
	for _, pass := range []bool{false, true} {
		s := newStory(t)
		s.p.Settings.SignedPass = pass
		frame := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: 1000, Flags: syn, Options: md5}.Frame()
		was := bytes.Clone(frame)
		why, _ := s.p.Judge(state.Out, frame, false)
		if want := map[bool]state.Reason{false: state.Signed, true: state.PassedOut}[pass]; why != want {
			t.Errorf("%v, want %v", why, want)
		}
		if !bytes.Equal(frame, was) {
			t.Error("a signed segment was changed")
		}
	}
}

// TestShiftIsUndone: what the gateway makes of a segment has a right checksum
// from scratch, and the way back gives the segment again, whatever its options
// and wherever the numbers wrap.
func TestShiftIsUndone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStory(t)
		s.pass(float64(rapid.IntRange(0, 1e6).Draw(rt, "when")))
		h, w, p, q := s.open()
		c := s.conn()
		blocks := rapid.IntRange(0, 4).Draw(rt, "blocks")
		var options []byte
		if blocks > 0 {
			options = append(bytes.Repeat([]byte{1}, rapid.IntRange(0, 6).Draw(rt, "nops")), 5, uint8(2+8*blocks))
			for range 8 * blocks {
				options = append(options, rapid.Byte().Draw(rt, "edge"))
			}
			options = append(options, make([]byte, (4-len(options)%4)%4)...)
		}
		if len(options) > 40 {
			return
		}
		side := state.Side(rapid.IntRange(0, 1).Draw(rt, "side"))
		g := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: h, Ack: q, Flags: ack, Options: options,
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(rt, "payload"), VLAN: make([]uint16, rapid.IntRange(0, 2).Draw(rt, "tags"))}
		if side == state.In {
			g = pathtest.Segment{Src: s.peer, Dst: s.host, Seq: p, Ack: w, Flags: ack, Options: options, Payload: g.Payload, VLAN: g.VLAN}
		}
		frame := g.Frame()
		was := bytes.Clone(frame)
		if why, pass := s.p.Judge(side, frame, false); !pass {
			rt.Fatal(why)
		}
		var d packet.Packet
		if err := d.Decode(packet.LinkEthernet, frame, len(frame)); err != nil || d.Checksum() != packet.ChecksumGood || d.HeaderChecksum() != packet.ChecksumGood {
			rt.Fatalf("%v, checksum %v", err, d.Checksum())
		}
		if bytes.Equal(frame, was) {
			rt.Fatal("nothing was shifted")
		}
		// A gateway whose nonces are the negative gives the segment back.
		c.Out, c.In = -c.Out, -c.In
		c.AckHi, c.LoCur, c.LoPrev, c.InNext = 0, 0, 0, ^uint32(0)
		if why, pass := s.p.Judge(side, frame, false); !pass {
			rt.Fatal(why)
		}
		if !bytes.Equal(frame, was) {
			rt.Fatalf("there and back:\n%x\n%x", was, frame)
		}
	})
}
