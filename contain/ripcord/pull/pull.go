//go:build linux

// Package pull is the victim's side of Ripcord: it asks the gateway in front of
// a host to stop what the host sends, by the protocol or by a RST, and checks
// whether it stops.
package pull

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"dragnet/contain/ripcord/message"
)

// Request describes the conversation to end.
type Request struct {
	// Host is the sender; Port the UDP port of its gateway.
	Host netip.Addr
	Port uint16
	// Proto is the IP protocol, HPort the host's port, PPort ours; 0 is any.
	Proto        uint8
	HPort, PPort uint16
	// Peer are our addresses; the zero value means the one used as source for
	// Host.
	Peer netip.Prefix
	// For is how long to end it.
	For time.Duration
}

// ErrNoGateway is returned when no gateway answers.
var ErrNoGateway = errors.New("no answer: there is no gateway in front of that host, or it ignores requests")

const (
	again = 700 * time.Millisecond
	tries = 5
)

// Do sends the request, proves that messages to us reach us, and returns the
// gateway's answer: the status, and for how long the conversation is ended. For
// a prefix the challenges go to addresses all over it, so this machine must own
// them all ("ip route add local PREFIX dev lo" makes it so).
func Do(ctx context.Context, r Request) (message.Status, time.Duration, error) {
	conn, err := openSocket(ctx, &r)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	gateway := net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.Host, r.Port))
	ask := message.Message{Kind: message.Ask, Proto: r.Proto, HPort: r.HPort, PPort: r.PPort, Peer: r.Peer, Seconds: uint32(r.For.Seconds())}
	rand.Read(ask.ID[:])
	proofs := map[netip.Addr]message.Proof{}
	var order []netip.Addr
	buf := make([]byte, 1500)
	for range tries {
		out := ask
		if len(order) == message.Needed(r.Peer) {
			out.Kind = message.Pull
			for _, a := range order {
				out.Proofs = append(out.Proofs, proofs[a])
			}
		} else {
			order = order[:0] // another time slot may mean other addresses
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
			l, err := message.Parse(buf[:n])
			if err != nil || from.Addr().Unmap() != r.Host || l.ID != ask.ID {
				continue
			}
			if l.Kind == message.Answer {
				return l.Status, time.Duration(l.Seconds) * time.Second, nil
			}
			if l.Kind != message.Challenge || len(l.Proofs) != 1 || out.Kind == message.Pull {
				continue
			}
			p := l.Proofs[0]
			if _, known := proofs[p.Address]; !known {
				order = append(order, p.Address)
			}
			proofs[p.Address] = p
			if len(order) == message.Needed(r.Peer) {
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

// openSocket opens the socket that receives challenges, and fills in our
// address.
func openSocket(ctx context.Context, r *Request) (*net.UDPConn, error) {
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
	if !message.Allowed(r.Peer) {
		return nil, fmt.Errorf("%v: a gateway takes /8 to /32 of IPv4, and /128 and every fourth from /8 to /64 of IPv6", r.Peer)
	}
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
