package path_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"dragnet/contain/ripcord/path"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
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
	options    []byte // of the host's first SYNs
}

func newStory(t testing.TB) *story {
	p := path.New(tables.DefaultSettings())
	p.Secret, p.Budget, p.NS = [2]uint64{1, 2}, [3]int32{1, 4, 1}, 5e9
	return &story{t: t, p: p, host: netip.MustParseAddrPort("10.0.0.5:40000"), peer: netip.MustParseAddrPort("192.0.2.1:80")}
}

func (s *story) conn() *tables.Conn { return s.p.Conns[tables.Ends{Host: s.host, Peer: s.peer}] }

func (s *story) pass(seconds float64) { s.p.NS += uint64(seconds * 1e9) }

// send sends a segment and wants it judged; what came out is returned.
func (s *story) send(side tables.Side, want tables.Reason, flags uint8, seq, ack uint32, payload string) (outSeq, outAck uint32) {
	s.t.Helper()
	g := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: seq, Ack: ack, Flags: flags, Payload: []byte(payload)}
	if side == tables.In {
		g.Src, g.Dst = g.Dst, g.Src
	} else if flags == syn {
		g.Options = s.options
	}
	frame := g.Frame()
	if why, _ := s.p.Judge(side, frame, false); why != want {
		s.t.Fatalf("side %d, flags %#x: %v, want %v; %+v", side, flags, why, want, s.conn())
	}
	return binary.BigEndian.Uint32(frame[14+20+4:]), binary.BigEndian.Uint32(frame[14+20+8:])
}

func (s *story) out(want tables.Reason, flags uint8, seq, ack uint32, payload string) (uint32, uint32) {
	s.t.Helper()
	return s.send(tables.Out, want, flags, seq, ack, payload)
}

func (s *story) in(want tables.Reason, flags uint8, seq, ack uint32, payload string) (uint32, uint32) {
	s.t.Helper()
	return s.send(tables.In, want, flags, seq, ack, payload)
}

// granted lets the host show a Fast Open cookie that the peer granted to it.
func (s *story) granted() {
	const cookie = "GRANTED!"
	s.options = append([]byte{1, 1, 34, 10}, cookie...)
	s.p.PeerCookies[tables.Grant{Host: s.host.Addr(), Peer: s.peer.Addr()}] = binary.BigEndian.Uint64([]byte(cookie))
}

// open shakes hands; h and p are the next numbers of the host as it counts
// itself and of the peer as it counts, w and q as the other side counts them.
func (s *story) open() (h, w, p, q uint32) {
	s.t.Helper()
	w, _ = s.out(tables.PassedOut, syn, 1000, 0, "")
	q, back := s.in(tables.PassedIn, syn|ack, 9000, w+1, "")
	if back != 1001 {
		s.t.Fatalf("the peer's acknowledgement comes in as %d, want 1001", back)
	}
	if _, a := s.out(tables.PassedOut, ack, 1001, q+1, ""); a != 9001 {
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
		"acknowledges what the host sent": {false, func(_ *story, _, w, p, _ uint32) (uint8, uint32, uint32) { return rst | ack, p + 500, w }},
		"acknowledges the unshifted":      {false, func(_ *story, h, _, p, _ uint32) (uint8, uint32, uint32) { return rst | ack, p + 500, h }},
		"acknowledges what was not sent":  {false, func(_ *story, _, w, p, _ uint32) (uint8, uint32, uint32) { return rst | ack, p + 500, w + 1 }},
		"an acknowledgement of before": {false, func(s *story, h, w, p, q uint32) (uint8, uint32, uint32) {
			s.in(tables.PassedIn, ack, p, w, "data")
			s.out(tables.PassedOut, ack, h, q+4, "")
			s.pass(2)
			return rst, p, 0
		}},
		"the end of what the peer sent": {false, func(s *story, _, w, p, _ uint32) (uint8, uint32, uint32) {
			s.in(tables.PassedIn, ack, p, w, "data")
			return rst, p + 4, 0
		}},
		"a flooder varies its acknowledgement": {true, func(s *story, h, w, p, q uint32) (uint8, uint32, uint32) {
			s.in(tables.PassedIn, ack, p, w, "some data of the peer")
			left := p
			for n := range uint32(20) {
				_, a := s.out(tables.PassedOut, ack, h+n, q+n%7, "x")
				if a < left {
					s.t.Fatalf("an acknowledgement left as %d, after %d", a, left)
				}
				left = a
			}
			return rst, left, 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			h, w, p, q := s.open()
			flags, seq, a := c.send(s, h, w, p, q)
			hi := s.conn().AckHi + s.conn().In
			if c.valid {
				s.in(tables.PassedIn, flags, seq, a, "")
			} else {
				was := s.conn().AckHi
				_, asked := s.in(tables.Challenge, flags, seq, a, "")
				if asked != was {
					t.Fatalf("the challenge acknowledges %d, want %d", asked, was)
				}
				s.in(tables.PassedIn, flags, seq, a, "") // not more often
				// The host goes on, and acknowledges more than the challenge.
				for s.conn().InNext != s.conn().AckHi {
					s.out(tables.PassedOut, ack, h, s.conn().AckHi+1+s.conn().In, "flood")
				}
				hi = s.conn().AckHi + s.conn().In
				s.out(tables.PassedOut, ack, h, hi, "flood")
				s.in(tables.PassedIn, rst, asked, 0, "")
			}
			s.out(tables.Blocked, ack, h, hi, "flood")
			s.pass(31)
			s.out(tables.Blocked, ack, h, hi, "flood")
			// The host may begin another, and the peer may refuse that.
			again, _ := s.out(tables.PassedOut, syn, 7777, 0, "")
			s.out(tables.Handshake, ack, 7778, hi, "flood")
			s.in(tables.PassedIn, rst|ack, 0, again+1, "")
			s.out(tables.Blocked, syn, 7777, 0, "")
			s.pass(31)
			s.out(tables.PassedOut, syn, 7777, 0, "")
		})
	}
}

// TestForgedRSTs counts the numbers that end a connection which carries data,
// near all that an attacker could hope for.
func TestForgedRSTs(t *testing.T) {
	s := newStory(t)
	h, w, p, q := s.open()
	for n := range uint32(1000) {
		s.in(tables.PassedIn, ack, p+n*1000, w, string(make([]byte, 1000)))
		s.out(tables.PassedOut, ack, h, q+n*1000, "")
	}
	valid := 0
	before := *s.conn()
	for seq := p - 5000; seq != p+1_005_000; seq++ {
		for _, flags := range []uint8{rst, rst | ack} {
			frame := pathtest.Segment{Src: s.peer, Dst: s.host, Seq: seq, Ack: w, Flags: flags}.Frame()
			s.p.Judge(tables.In, frame, false)
			if s.conn().State == tables.Ended {
				valid++
				*s.conn() = before
			}
		}
	}
	if valid != 2 {
		t.Errorf("%d of a million RSTs ended the connection, want the exact one, with and without acknowledgement", valid)
	}
}

func TestRSTToASYN(t *testing.T) {
	for _, payload := range []string{"", "fast open"} {
		s := newStory(t)
		s.granted()
		w, _ := s.out(tables.PassedOut, syn, 1000, 0, payload)
		s.in(tables.PassedIn, rst|ack, 0, 1001, "") // who did not see the shift
		s.in(tables.PassedIn, rst, w+1, 0, "")
		if again, _ := s.out(tables.PassedOut, syn, 1000, 0, payload); again != w {
			t.Fatalf("a repeated SYN leaves as %d, then as %d", w, again)
		}
		s.in(tables.PassedIn, rst|ack, 0, w+1+uint32(len(payload)), "")
		s.out(tables.Blocked, syn, 1000, 0, payload)
	}
}

func TestWhatMayNotLeave(t *testing.T) {
	s := newStory(t)
	s.out(tables.NoHandshake, ack, 1, 1, "x")
	w, _ := s.out(tables.PassedOut, syn, 1000, 0, "")
	s.out(tables.Handshake, ack, 1001, 9001, "agreed numbers, no answer")
	s.in(tables.PassedIn, syn|ack, 9000, 1001, "") // of somebody who did not see the SYN
	s.out(tables.Handshake, ack, 1001, 9001, "x")
	q, _ := s.in(tables.PassedIn, syn|ack, 9000, w+1, "")
	s.out(tables.PassedOut, ack, 1001, q+1, "x")
	s.out(tables.NoAck, 0, 1001, 0, "x")
	s.out(tables.AckRange, ack, 1001, q+2, "x")
	s.out(tables.AckRange, ack, 1001, q, "x")
	s.out(tables.AckRange, ack, 1001, q+1<<31, "x")
	s.out(tables.PassedOut, fin|ack, 1002, q+1, "")
}

func TestRSTsOfTheHostAreBounded(t *testing.T) {
	s := newStory(t)
	h, w, p, q := s.open()
	n := int(s.conn().Credits)
	for range n {
		s.out(tables.PassedOut, rst|ack, h, q, "")
	}
	s.out(tables.ResetLimit, rst|ack, h, q, "")
	s.out(tables.Closed, ack, h, q, "x")
	s.in(tables.PassedIn, ack, p, w, "x")
	s.out(tables.PassedOut, rst, h, 0, "")
	s.out(tables.ResetLimit, rst, h, 0, "")
}

func TestSimultaneousOpen(t *testing.T) {
	s := newStory(t)
	w, _ := s.out(tables.PassedOut, syn, 1000, 0, "")
	q, _ := s.in(tables.PassedIn, syn, 9000, 0, "")
	if again, a := s.out(tables.PassedOut, syn|ack, 1000, q+1, ""); again != w || a != 9001 {
		t.Fatalf("SYN and ACK leave as %d, %d; want %d, 9001", again, a, w)
	}
	s.in(tables.PassedIn, syn|ack, 9000, w+1, "")
	s.out(tables.PassedOut, ack, 1001, q+1, "data")
}

func TestPortsUsedAgain(t *testing.T) {
	for range 50 {
		s := newStory(t)
		h, w, p, q := s.open()
		s.out(tables.PassedOut, fin|ack, h, q, "")
		s.in(tables.PassedIn, fin|ack, p, w+1, "")
		s.out(tables.PassedOut, ack, h+1, q+1, "")
		if !s.conn().Over() {
			t.Fatalf("the connection is not over: %+v", s.conn())
		}
		s.pass(0.5)
		// The peer is in TIME_WAIT: it takes only what is above (RFC 9293,
		// section 3.10.7.4).
		if again, _ := s.out(tables.PassedOut, syn, 77, 0, ""); int32(again-(w+1)) <= 0 {
			t.Fatalf("the next connection begins at %d, the last ended at %d", again, w+1)
		}
	}
}

func TestServerBehindTheGateway(t *testing.T) {
	s := newStory(t)
	s.p.Judge(tables.Out, pathtest.ARP(s.host.Addr(), s.peer.Addr()), false)
	q, _ := s.in(tables.PassedIn, syn, 9000, 0, "")
	s.out(tables.Handshake, ack, 1001, q+1, "too early")
	w, _ := s.out(tables.PassedOut, syn|ack, 1000, q+1, "")
	s.in(tables.PassedIn, ack, 9001, 1001, "") // did not see our number
	s.out(tables.Handshake, ack, 1001, q+1, "too early")
	s.in(tables.PassedIn, ack, 9001, w+1, "")
	s.out(tables.PassedOut, ack, 1001, q+1, "data")
	s.in(tables.PassedIn, rst, 9001, 0, "")
	s.out(tables.Blocked, ack, 1005, q+1, "data")
	// The peer itself may begin again.
	q, _ = s.in(tables.PassedIn, syn, 5000, 0, "")
	s.out(tables.PassedOut, syn|ack, 3000, q+1, "")
}

// TestFastOpenDataBeforeTheHandshake: a peer that shows the cookie it was
// granted gets data at once; one that shows none, or the one that the host
// knows, gets none.
func TestFastOpenDataBeforeTheHandshake(t *testing.T) {
	s := newStory(t)
	s.p.Judge(tables.Out, pathtest.ARP(s.host.Addr(), s.peer.Addr()), false)
	option := func(cookie string) []byte { return append([]byte{1, 1, 34, 10}, cookie...) }
	send := func(side tables.Side, want tables.Reason, flags uint8, seq, ack uint32, options []byte, payload string) (outSeq uint32, cookie string) {
		t.Helper()
		g := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: seq, Ack: ack, Flags: flags, Options: options, Payload: []byte(payload)}
		if side == tables.In {
			g.Src, g.Dst = g.Dst, g.Src
		}
		frame := g.Frame()
		if why, _ := s.p.Judge(side, frame, false); why != want {
			t.Fatalf("%v, want %v", why, want)
		}
		var d packet.Packet
		if err := d.Decode(packet.LinkEthernet, frame, len(frame)); err != nil || d.Checksum() != packet.ChecksumGood {
			t.Fatalf("%v, checksum %v", err, d.Checksum())
		}
		if len(options) > 0 {
			cookie = string(frame[14+20+20+4:][:8])
		}
		return binary.BigEndian.Uint32(frame[14+20+4:]), cookie
	}
	const known = "COOKIE!!"
	q, _ := send(tables.In, tables.PassedIn, syn, 9000, 0, nil, "request")
	w, granted := send(tables.Out, tables.PassedOut, syn|ack, 1000, q+8, option(known), "")
	if granted == known {
		t.Fatal("the cookie left as the host knows it")
	}
	s.out(tables.Handshake, ack, 1001, q+8, "answer")
	s.in(tables.PassedIn, ack, 9008, w+1, "")
	s.out(tables.PassedOut, ack, 1001, q+8, "answer")

	for cookie, good := range map[string]bool{granted: true, known: false} {
		s.peer = netip.AddrPortFrom(s.peer.Addr(), s.peer.Port()+1)
		q, shown := send(tables.In, tables.PassedIn, syn, 9000, 0, option(cookie), "request")
		if good && shown != known {
			t.Fatalf("the host is shown %q, want what it granted", shown)
		}
		w, _ := send(tables.Out, tables.PassedOut, syn|ack, 1000, q+8, nil, "")
		if !good {
			s.out(tables.Handshake, ack, 1001, q+8, "answer")
			continue
		}
		sent := 0
		for s.conn().Grants > 0 {
			s.out(tables.PassedOut, ack, 1001+uint32(sent), q+8, "answer")
			sent += 6
		}
		s.out(tables.Handshake, ack, 1001, q+8, "answer")
		s.in(tables.PassedIn, ack, 9008, w+7, "")
		s.out(tables.PassedOut, ack, 1007, q+8, "more")
	}
}

// TestDataInTheHostsSYN: nobody who took no part is sent data, not even with a SYN.
func TestDataInTheHostsSYN(t *testing.T) {
	s := newStory(t)
	s.out(tables.Handshake, syn, 1000, 0, "data")
	s.options = append([]byte{1, 1, 34, 10}, "MADE UP!"...)
	s.out(tables.Handshake, syn, 1000, 0, "data")
	s.options = nil
	w, _ := s.out(tables.PassedOut, syn, 1000, 0, "")
	answer := pathtest.Segment{Src: s.peer, Dst: s.host, Seq: 9000, Ack: w + 2, Flags: syn | ack, Options: append([]byte{1, 1, 34, 10}, "MADE UP!"...)}
	s.p.Judge(tables.In, answer.Frame(), false) // not the peer's
	answer.Ack, answer.Options = w+1, append([]byte{1, 1, 34, 10}, "GRANTED!"...)
	s.p.Judge(tables.In, answer.Frame(), false)
	answer.Seq, answer.Options = 9002, append([]byte{1, 1, 34, 10}, "MADE UP!"...)
	s.p.Judge(tables.In, answer.Frame(), false) // nor this
	s.host = netip.AddrPortFrom(s.host.Addr(), 40001)
	s.options = append([]byte{1, 1, 34, 10}, "MADE UP!"...)
	s.out(tables.Handshake, syn, 1000, 0, "data")
	s.options = append([]byte{1, 1, 34, 10}, "GRANTED!"...)
	s.out(tables.PassedOut, syn, 1000, 0, "data")
}

// TestSYNACKs: what the host answers to a SYN that anybody may have sent.
func TestSYNACKs(t *testing.T) {
	s := newStory(t)
	s.p.Judge(tables.Out, pathtest.ARP(s.host.Addr(), s.peer.Addr()), false)
	q, _ := s.in(tables.PassedIn, syn, 9000, 0, "request")
	s.out(tables.Handshake, syn|ack, 1000, q+1, "data")
	s.out(tables.AckRange, syn|ack, 1000, q+3, "")
	s.out(tables.AckRange, syn|ack, 1000, q, "")
	w, _ := s.out(tables.PassedOut, syn|ack, 1000, q+8, "")
	for range 5 {
		s.out(tables.PassedOut, syn|ack, 1000, q+1, "")
	}
	s.out(tables.Handshake, syn|ack, 1000, q+1, "")
	s.in(tables.PassedIn, syn, 9000, 0, "request")
	s.out(tables.PassedOut, syn|ack, 1000, q+1, "")
	s.out(tables.Handshake, syn|ack, 1000, q+1, "")
	s.in(tables.PassedIn, ack, 9001, w, "") // one beside
	s.out(tables.Handshake, ack, 1001, q+1, "data")
	s.in(tables.PassedIn, ack, 9001, w+1, "")
	s.out(tables.PassedOut, ack, 1001, q+1, "data")
}

// TestAnswersToSYNWithData: the peer acknowledges the SYN or all of its data, and
// nothing between.
func TestAnswersToSYNWithData(t *testing.T) {
	for more, want := range map[uint32]tables.TCPState{1: tables.Established, 10: tables.Established, 5: tables.Handshaking, 11: tables.Handshaking} {
		s := newStory(t)
		s.granted()
		w, _ := s.out(tables.PassedOut, syn, 1000, 0, "fast open")
		s.out(tables.Handshake, syn, 1000, 0, "other length")
		s.out(tables.PassedOut, syn, 1000, 0, "")
		s.in(tables.PassedIn, syn|ack, 9000, w+more, "")
		if got := s.conn().State; got != want {
			t.Errorf("acknowledgement of %d octets: state %d, want %d", more, got, want)
		}
	}
}

// TestSpoofedSYNLiftsNoBlock: what a peer ended, a SYN in its name does not begin
// again.
func TestSpoofedSYNLiftsNoBlock(t *testing.T) {
	s := newStory(t)
	h, _, p, q := s.open()
	s.in(tables.PassedIn, rst, p, 0, "")
	s.out(tables.Blocked, ack, h, q, "x")
	again, _ := s.out(tables.PassedOut, syn, 6666, 0, "")
	s.in(tables.PassedIn, rst|ack, 0, again+1, "")
	q, _ = s.in(tables.PassedIn, syn, 5000, 0, "")
	s.out(tables.Blocked, syn, 7777, 0, "")
	w, _ := s.out(tables.PassedOut, syn|ack, 3000, q+1, "")
	s.out(tables.Handshake, ack, 3001, q+1, "data")
	s.in(tables.PassedIn, ack, 5001, w+1, "") // the peer did send it
	s.out(tables.PassedOut, ack, 3001, q+1, "data")
}

// TestReplayEstablishesNothing plays a recorded connection through another
// gateway, as two hosts could who agreed on their numbers.
func TestReplayEstablishesNothing(t *testing.T) {
	s := newStory(t)
	var recorded [][]byte // as they left and came
	record := func(side tables.Side, flags uint8, seq, a uint32, payload string) (uint32, uint32) {
		x, y := s.send(side, tables.Reason(side), flags, seq, a, payload)
		recorded = append(recorded, pathtest.Segment{Src: s.peer, Dst: s.host, Seq: seq, Ack: a, Flags: flags, Payload: []byte(payload)}.Frame())
		return x, y
	}
	w, _ := s.out(tables.PassedOut, syn, 1000, 0, "")
	q, _ := record(tables.In, syn|ack, 9000, w+1, "")
	s.out(tables.PassedOut, ack, 1001, q+1, "data")

	other := newStory(t)
	other.p.Secret[1]++
	other.out(tables.PassedOut, syn, 1000, 0, "")
	for _, f := range recorded {
		other.p.Judge(tables.In, bytes.Clone(f), false)
	}
	other.out(tables.Handshake, ack, 1001, q+1, "data")
	if other.conn().State != tables.Handshaking {
		t.Error("a replay established a connection")
	}
}

func TestFullTableKeepsWhatItHas(t *testing.T) {
	s := newStory(t)
	h, _, p, q := s.open()
	s.p.Room = [2]int{1, 1}
	first := s.host
	s.host = netip.AddrPortFrom(s.host.Addr(), 40001)
	s.out(tables.TableFull, syn, 1, 0, "")
	s.host = first
	s.out(tables.PassedOut, ack, h, q, "goes on")
	s.in(tables.PassedIn, rst, p, 0, "")
	s.host = netip.AddrPortFrom(s.host.Addr(), 40001)
	s.out(tables.TableFull, syn, 1, 0, "")
	s.host = first
	s.out(tables.Blocked, ack, h, q, "still")
}

// TestPeerThatForgotTheConnection reconnects from a fixed port to a peer that was
// started again and answers the old connection by RST.
func TestPeerThatForgotTheConnection(t *testing.T) {
	s := newStory(t)
	h, _, p, q := s.open()
	s.out(tables.PassedOut, ack, h, q, "anybody there?")
	s.in(tables.PassedIn, rst, p, 0, "")
	s.out(tables.Blocked, ack, h, q, "x")
	w, _ := s.out(tables.PassedOut, syn, 77, 0, "")
	q, _ = s.in(tables.PassedIn, syn|ack, 4000, w+1, "")
	s.out(tables.PassedOut, ack, 78, q+1, "data")
}

// TestFragmentsOfThePeer has a router beyond the gateway cut the peer's segments.
func TestFragmentsOfThePeer(t *testing.T) {
	s := newStory(t)
	h, w, p, q := s.open()
	cut := func(want tables.Reason, flags uint8, seq uint32, offset uint16, payload string) (outSeq uint32) {
		t.Helper()
		frame := pathtest.Segment{Src: s.peer, Dst: s.host, Seq: seq, Ack: w, Flags: flags, Payload: []byte(payload), Offset: offset}.Frame()
		if why, _ := s.p.Judge(tables.In, frame, false); why != want {
			t.Fatalf("%v, want %v", why, want)
		}
		return binary.BigEndian.Uint32(frame[14+20+4:])
	}
	const first, last = 0x2000, 20
	if got := cut(tables.PassedIn, ack, p, first, "the first of 2000 octets"); got != q {
		t.Errorf("the first fragment has the number %d, want %d", got, q)
	}
	if got := cut(tables.PassedIn, ack, p, last, "the rest"); got != p {
		t.Error("a fragment that has no header was changed")
	}
	s.out(tables.PassedOut, ack, h, q+2000, "")
	s.out(tables.AckRange, ack, h, q+100_000, "")
	cut(tables.Fragment, syn, 1, first, "")
	cut(tables.Fragment, rst, p+2000, first, "")
	cut(tables.PassedIn, fin|ack, p+2000, first, "the end")
	s.out(tables.PassedOut, fin|ack, h, q+2000, "")
	if s.conn().Over() {
		t.Error("the connection is over before the host acknowledged its end")
	}
	s.out(tables.PassedOut, ack, h+1, q+3001, "")
	if !s.conn().Over() {
		t.Error("the connection is not over")
	}
	frame := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: h, Ack: q, Flags: ack, Offset: first}.Frame()
	if why, _ := s.p.Judge(tables.Out, frame, false); why != tables.Fragment {
		t.Errorf("a fragment of the host: %v", why)
	}
}

// TestFullTableIsSwept: in a full table, what has expired gives way.
func TestFullTableIsSwept(t *testing.T) {
	s := newStory(t)
	s.open()
	s.p.Room = [2]int{2, 2}
	s.host = netip.AddrPortFrom(s.host.Addr(), 40001)
	s.out(tables.PassedOut, syn, 1, 0, "") // it is not answered
	s.host = netip.AddrPortFrom(s.host.Addr(), 40002)
	s.out(tables.TableFull, syn, 1, 0, "")
	s.pass(80)
	s.out(tables.PassedOut, syn, 1, 0, "")
	s.host = netip.AddrPortFrom(s.host.Addr(), 40003)
	s.out(tables.TableFull, syn, 1, 0, "")
	if len(s.p.Conns) != 2 {
		t.Errorf("%d connections, want 2", len(s.p.Conns))
	}
}

func TestSignedSegments(t *testing.T) {
	md5 := append([]byte{1, 1, 19, 18}, make([]byte, 16)...)
	for _, pass := range []bool{false, true} {
		s := newStory(t)
		s.p.Settings.SignedPass = pass
		frame := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: 1000, Flags: syn, Options: md5}.Frame()
		was := bytes.Clone(frame)
		why, _ := s.p.Judge(tables.Out, frame, false)
		if want := map[bool]tables.Reason{false: tables.Signed, true: tables.PassedOut}[pass]; why != want {
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
		side := tables.Side(rapid.IntRange(0, 1).Draw(rt, "side"))
		g := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: h, Ack: q, Flags: ack, Options: options,
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(rt, "payload"), VLAN: make([]uint16, rapid.IntRange(0, 2).Draw(rt, "tags"))}
		if side == tables.In {
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
		c.AckHi, c.ISNIn, c.InNext = q, q-1, q
		if why, pass := s.p.Judge(side, frame, false); !pass {
			rt.Fatal(why)
		}
		if !bytes.Equal(frame, was) {
			rt.Fatalf("there and back:\n%x\n%x", was, frame)
		}
	})
}

// TestQuotesShowNoNonce: whatever a router quotes of a segment, and however much
// of it, the host does not learn how its number left.
func TestQuotesShowNoNonce(t *testing.T) {
	options := []byte{6, 0, 1, 4, 0, 0, 0, 0} // destination options, then TCP
	chain := append([]byte{60, 0, 1, 4, 0, 0, 0, 0}, options...)
	for name, c := range map[string]struct {
		ext      []byte
		next     uint8
		redirect bool
	}{
		"plain": {}, "an option": {ext: options, next: 60}, "two headers": {ext: chain, next: 0},
		"a Redirect": {redirect: true}, "a Redirect and an option": {ext: options, next: 60, redirect: true},
	} {
		t.Run(name, func(t *testing.T) {
			for cut := 40; cut <= 120; cut++ {
				s := newStory(t)
				s.host, s.peer = netip.MustParseAddrPort("[2001:db8::5]:40000"), netip.MustParseAddrPort("[2001:db8:1::1]:80")
				frame := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: 1000, Flags: syn, Extensions: c.ext, FirstNext: c.next}.Frame()
				if why, _ := s.p.Judge(tables.Out, frame, false); why != tables.PassedOut {
					t.Fatal(why)
				}
				at := 40 + len(c.ext) + 4 // of the number in the packet
				left := [4]byte(frame[14+at:])
				inner := frame[14:]
				body := make([]byte, 4)
				kind := uint8(3)
				if c.redirect {
					kind = 137
					body = append(body, make([]byte, 32)...)
					for len(inner)%8 != 0 {
						inner = append(inner, 0)
					}
					body = append(body, 4, uint8(1+len(inner)/8), 0, 0, 0, 0, 0, 0)
				}
				inner = inner[:min(cut, len(inner))]
				back := pathtest.ICMP(netip.MustParseAddr("fe80::1"), s.host.Addr(), kind, 0, append(body, inner...))
				why, pass := s.p.Judge(tables.In, back, false)
				if !pass {
					if why != tables.Unshifted {
						t.Fatal(why)
					}
					if n := len(inner) - at; n >= 4 && (n == 4 || n >= 10) {
						t.Errorf("%d octets are quoted, and the quote is dropped", len(inner))
					}
					continue
				}
				var d packet.Packet
				if err := d.Decode(packet.LinkEthernet, back, len(back)); err != nil || d.Checksum() != packet.ChecksumGood {
					t.Fatalf("%v, checksum %v", err, d.Checksum())
				}
				quoted := back[len(back)-len(inner):]
				if len(quoted) > at && quoted[at] == left[0] && left[0] != 0 {
					t.Fatalf("of %d octets quoted, the number is as it left: %x", len(inner), left)
				}
			}
		})
	}
}

// TestWaitingForAService: a client that tries twice a second is not taken for a
// flood; one that tries faster is held up for a second, then two.
func TestWaitingForAService(t *testing.T) {
	try := func(s *story, n int) tables.Reason {
		s.host = netip.AddrPortFrom(s.host.Addr(), uint16(20000+n))
		frame := pathtest.Segment{Src: s.host, Dst: s.peer, Seq: 1000, Flags: syn}.Frame()
		why, pass := s.p.Judge(tables.Out, frame, false)
		if pass {
			s.in(tables.PassedIn, rst|ack, 0, binary.BigEndian.Uint32(frame[14+20+4:])+1, "")
		}
		return why
	}
	s := newStory(t)
	for n := range 60 {
		if why := try(s, n); why != tables.PassedOut {
			t.Fatalf("try %d: %v", n, why)
		}
		s.pass(0.5)
	}
	s = newStory(t)
	var opened []float64
	begin := s.p.NS
	for n := range 4000 {
		if try(s, n) == tables.PassedOut {
			opened = append(opened, float64(s.p.NS-begin)/1e9)
		}
		s.pass(0.01)
	}
	if len(opened) > 15 || len(opened) < 10 {
		t.Errorf("%d of 4000 tries in 40 s left, want 8, and one after 1, 2, 4, 8 and 16 s more: %v", len(opened), opened)
	}
	for port := range uint16(3000) { // of the peer, each once
		s.peer = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), 1000+port)
		try(s, int(port))
	}
	if n := s.p.Counters[tables.Stopped]; n < 2900 {
		t.Errorf("%d of 3000 tries of other ports were stopped", n)
	}
}
