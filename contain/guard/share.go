package guard

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"dragnet/contain/guard/tc"
	"dragnet/daw"
	"dragnet/flow"
)

// edgeLink exchanges replies with the guards at the other edges, in datagrams:
//
//	"DGE1" | time (8 octets, ns) | number (8) | replies (42 each) | HMAC-SHA256 (32)
//
// in network byte order. The HMAC covers the sender's address and port too, so that
// a datagram cannot be returned to its sender as another's. A reply is its kind (1), 4 or 6 (1), source and
// destination of the request (16 each, IPv4 in mapped form), their ports (2 each)
// and the request's sequence number (4). Numbers count a sender's datagrams, so
// that a lost one is noticed; an empty one is sent each second.
type edgeLink struct {
	conn  *net.UDPConn
	self  netip.AddrPort
	peers []netip.AddrPort
	key   []byte

	number uint64 // of the last datagram sent
	beat   flow.Time
	heard  []heardPeer // by the index of the peer; used by the receiver only
	in     chan []edgeReply

	// rejected counts datagrams that no peer can have sent.
	rejected atomic.Uint64
	// last is when each peer was last heard, by its index; lost is when a datagram
	// was last missing.
	last []atomic.Int64
	lost atomic.Int64
}

// heardPeer is what the last datagram of a peer said; zero before the first.
type heardPeer struct {
	number uint64
	sent   flow.Time
}

const (
	datagramHead   = "DGE1"
	datagramFixed  = len(datagramHead) + 16
	replyLength    = 42
	repliesPerUnit = 30 // which fits an MTU of 1500
	// staleAfter is how far a datagram's time may differ from ours.
	staleAfter = flow.Time(30 * time.Second)
	// deafAfter is how long a peer may be silent until what is missing here says
	// nothing.
	deafAfter = flow.Time(3 * time.Second)
)

func openLink(c EdgesConfiguration) (*edgeLink, error) {
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, fmt.Errorf("edges.key: %w", err)
	}
	if len(key) < 32 {
		return nil, fmt.Errorf("edges.key: %s has %d bytes; want at least 32", c.Key, len(key))
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(c.Listen))
	if err != nil {
		return nil, fmt.Errorf("edges.listen: %w", err)
	}
	return &edgeLink{
		conn: conn, self: c.Listen, peers: c.Peers, key: key, heard: make([]heardPeer, len(c.Peers)), in: make(chan []edgeReply, 1024), last: make([]atomic.Int64, len(c.Peers)),
	}, nil
}

// send sends replies to all peers, and an empty datagram where one is due. If
// others had to be left out, a number is left out for them.
func (l *edgeLink) send(now flow.Time, all []edgeReply, leftOut bool) {
	if leftOut {
		l.number++
	}
	if len(all) == 0 && now < l.beat {
		return
	}
	l.beat = now + flow.Time(time.Second)
	for first := true; first || len(all) > 0; first = false {
		n := min(len(all), repliesPerUnit)
		l.number++
		b := l.seal(now, all[:n])
		for _, p := range l.peers {
			// A peer that does not get it notices by the number, or by silence.
			_, _ = l.conn.WriteToUDPAddrPort(b, p)
		}
		all = all[n:]
	}
}

func (l *edgeLink) seal(now flow.Time, all []edgeReply) []byte {
	b := append([]byte{}, datagramHead...)
	b = binary.BigEndian.AppendUint64(b, uint64(now))
	b = binary.BigEndian.AppendUint64(b, l.number)
	for i := range all {
		c := &all[i].conn
		family := byte(4)
		if c.Src.Is6() {
			family = 6
		}
		src, dst := c.Src.As16(), c.Dst.As16()
		b = append(b, byte(all[i].kind), family)
		b = append(append(b, src[:]...), dst[:]...)
		b = binary.BigEndian.AppendUint16(b, c.SrcPort)
		b = binary.BigEndian.AppendUint16(b, c.DstPort)
		b = binary.BigEndian.AppendUint32(b, c.Seq)
	}
	return append(b, l.mac(l.self, b)...)
}

// mac authenticates a datagram and who sent it.
func (l *edgeLink) mac(from netip.AddrPort, b []byte) []byte {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte(from.String()))
	h.Write([]byte{0})
	h.Write(b)
	return h.Sum(nil)
}

// run receives datagrams until ctx ends.
func (l *edgeLink) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 2048)
	for ctx.Err() == nil {
		n, from, err := l.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			continue // an ICMP error about a peer that is not up
		}
		now := currentTime()
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		peer := slices.Index(l.peers, from)
		if peer < 0 {
			l.rejected.Add(1)
			continue
		}
		sent, number, all, err := l.open(from, b[:n])
		if age := now - sent; err != nil || age > staleAfter || age < -staleAfter {
			l.rejected.Add(1)
			continue
		}
		if !l.note(now, peer, sent, number) {
			l.rejected.Add(1)
			continue
		}
		if len(all) == 0 {
			continue
		}
		select {
		case l.in <- all:
		default:
			l.lost.Store(int64(now))
		}
	}
	return nil
}

// note records that a datagram of a peer arrived, and that others before it are
// missing. It reports false for one that was sent before the last.
func (l *edgeLink) note(now flow.Time, peer int, sent flow.Time, number uint64) bool {
	p := &l.heard[peer]
	switch {
	case *p == (heardPeer{}):
	case sent < p.sent || sent == p.sent && number <= p.number:
		return false
	case number != p.number+1:
		l.lost.Store(int64(now))
	}
	p.number, p.sent = number, sent
	l.last[peer].Store(int64(now))
	return true
}

// errDatagram is returned for a datagram that no peer can have sent.
var errDatagram = errors.New("not a datagram of another edge")

// open checks and decodes a datagram.
func (l *edgeLink) open(from netip.AddrPort, b []byte) (sent flow.Time, number uint64, all []edgeReply, err error) {
	n := len(b) - sha256.Size
	if n < datagramFixed || string(b[:len(datagramHead)]) != datagramHead || (n-datagramFixed)%replyLength != 0 || !hmac.Equal(b[n:], l.mac(from, b[:n])) {
		return 0, 0, nil, errDatagram
	}
	sent, number = flow.Time(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint64(b[12:])
	for b := b[datagramFixed:n]; len(b) > 0; b = b[replyLength:] {
		r := edgeReply{tc.Reply(b[0]), daw.Conn{
			Src: netip.AddrFrom16([16]byte(b[2:18])), Dst: netip.AddrFrom16([16]byte(b[18:34])),
			SrcPort: binary.BigEndian.Uint16(b[34:]), DstPort: binary.BigEndian.Uint16(b[36:]), Seq: binary.BigEndian.Uint32(b[38:]),
		}}
		mapped := r.conn.Src.Is4In6()
		if r.kind < tc.Success || r.kind > tc.Unreachable || mapped != r.conn.Dst.Is4In6() || mapped && b[1] != 4 || !mapped && b[1] != 6 {
			return 0, 0, nil, errDatagram
		}
		r.conn.Src, r.conn.Dst = r.conn.Src.Unmap(), r.conn.Dst.Unmap()
		all = append(all, r)
	}
	return sent, number, all, nil
}

// isDeaf reports whether replies at another edge may be missing here, and the
// peers not heard lately.
func (l *edgeLink) isDeaf(now flow.Time) (deaf bool, missing []netip.AddrPort) {
	for i, p := range l.peers {
		if now-flow.Time(l.last[i].Load()) > deafAfter {
			missing = append(missing, p)
		}
	}
	return len(missing) > 0 || now-flow.Time(l.lost.Load()) < deafAfter, missing
}

func (l *edgeLink) close() error { return l.conn.Close() }
