//go:build linux

// Package pull is the victim's side of Ripcord: it asks the gateway in front of
// a host to end what the host sends, by the protocol or by a RST, and watches
// whether that happens.
package pull

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"dragnet/contain/ripcord/letter"
)

// Request says what shall end.
type Request struct {
	// Host is who sends; Port where its gateway answers.
	Host netip.Addr
	Port uint16
	// Proto is the IP protocol, HPort the host's port, PPort ours; 0 is any.
	Proto        uint8
	HPort, PPort uint16
	// Peer are our addresses; not set is the one that packets to Host leave
	// from.
	Peer netip.Prefix
	// For is how long.
	For time.Duration
}

// ErrNoGateway says that nobody answered.
var ErrNoGateway = errors.New("no answer: there is no gateway in front of that host, or it does not obey")

const (
	again = 700 * time.Millisecond
	tries = 5
)

// Do asks, proves that letters to us reach us, and returns what the gateway
// says: the status, and for how long the conversation is ended. For a prefix
// the challenges go to addresses all over it, so this machine must own them
// all ("ip route add local PREFIX dev lo" makes it so).
func Do(ctx context.Context, r Request) (letter.Status, time.Duration, error) {
	conn, err := listen(ctx, &r)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	gateway := net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.Host, r.Port))
	ask := letter.Letter{Kind: letter.Ask, Proto: r.Proto, HPort: r.HPort, PPort: r.PPort, Peer: r.Peer, Seconds: uint32(r.For.Seconds())}
	rand.Read(ask.ID[:])
	proofs := map[netip.Addr]letter.Proof{}
	var order []netip.Addr
	buf := make([]byte, 1500)
	for range tries {
		out := ask
		if len(order) == letter.Needed(r.Peer) {
			out.Kind = letter.Pull
			for _, a := range order {
				out.Proofs = append(out.Proofs, proofs[a])
			}
		} else {
			order = order[:0] // another time may mean other addresses
			clear(proofs)
		}
		if _, err := conn.WriteToUDP(out.Append(nil), gateway); err != nil {
			return 0, 0, fmt.Errorf("write to the gateway: %w", err)
		}
		deadline := time.Now().Add(again)
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		conn.SetReadDeadline(deadline)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				break // time to try again
			}
			l, err := letter.Parse(buf[:n])
			if err != nil || from.Addr().Unmap() != r.Host || l.ID != ask.ID {
				continue
			}
			if l.Kind == letter.Answer {
				return l.Status, time.Duration(l.Seconds) * time.Second, nil
			}
			if l.Kind != letter.Challenge || len(l.Proofs) != 1 || out.Kind == letter.Pull {
				continue
			}
			p := l.Proofs[0]
			if _, known := proofs[p.Address]; !known {
				order = append(order, p.Address)
			}
			proofs[p.Address] = p
			if len(order) == letter.Needed(r.Peer) {
				break
			}
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			break
		} else if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
	}
	return 0, 0, ErrNoGateway
}

// listen opens the socket that challenges come to, and fills in our address.
func listen(ctx context.Context, r *Request) (*net.UDPConn, error) {
	network := "udp4"
	if r.Host.Is6() {
		network = "udp6"
	}
	if !r.Peer.IsValid() {
		var d net.Dialer
		probe, err := d.DialContext(ctx, network, netip.AddrPortFrom(r.Host, r.Port).String()) // sends nothing
		if err != nil {
			return nil, fmt.Errorf("find our address: %w", err)
		}
		a := probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		probe.Close()
		r.Peer = netip.PrefixFrom(a, a.BitLen())
	}
	if r.Peer.Addr().BitLen() != r.Host.BitLen() {
		return nil, fmt.Errorf("%v and %v are of different families", r.Peer, r.Host)
	}
	r.Peer = r.Peer.Masked()
	local := &net.UDPAddr{}
	if r.Peer.IsSingleIP() {
		local.IP = r.Peer.Addr().AsSlice()
	}
	conn, err := net.ListenUDP(network, local)
	if err != nil {
		return nil, fmt.Errorf("listen for challenges: %w", err)
	}
	return conn, nil
}
