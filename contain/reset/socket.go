//go:build linux

package reset

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/packet"
)

// Socket sends segments under addresses of others. Where they leave is for the
// machine's routes to say.
type Socket struct{ v4, v6 int }

// Open opens a socket in the calling thread's network namespace. It needs
// CAP_NET_RAW.
func Open() (*Socket, error) {
	// With IPPROTO_RAW the caller makes the IP header (raw(7)).
	v4, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w (it needs CAP_NET_RAW)", err)
	}
	v6, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, errors.Join(fmt.Errorf("raw socket: %w", err), unix.Close(v4))
	} else if err != nil {
		v6 = -1
	}
	return &Socket{v4, v6}, nil
}

// Send implements Sender.
func (s *Socket) Send(g Segment) error {
	p := encode(g)
	if g.To.Addr().Is4() {
		return unix.Sendto(s.v4, p, 0, &unix.SockaddrInet4{Addr: g.To.Addr().As4()})
	}
	if s.v6 < 0 {
		return errors.New("this machine has no IPv6")
	}
	return unix.Sendto(s.v6, p, 0, &unix.SockaddrInet6{Addr: g.To.Addr().As16()})
}

// Close closes it.
func (s *Socket) Close() error {
	err := unix.Close(s.v4)
	if s.v6 >= 0 {
		err = errors.Join(err, unix.Close(s.v6))
	}
	return err
}

const hops = 64

// encode makes the packet of a segment: a TCP header without payload behind an IP
// header without options.
func encode(g Segment) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, g.From.Port())
	binary.BigEndian.PutUint16(tcp[2:], g.To.Port())
	binary.BigEndian.PutUint32(tcp[4:], g.Seq)
	tcp[12], tcp[13] = 5<<4, byte(flow.RST) // five words
	if g.HasAck {
		binary.BigEndian.PutUint32(tcp[8:], g.Ack)
		tcp[13] |= byte(flow.ACK)
	}
	binary.BigEndian.PutUint16(tcp[16:], packet.TransportChecksum(g.From.Addr(), g.To.Addr(), flow.TCP, tcp))
	var ip []byte
	if g.To.Addr().Is4() {
		ip = make([]byte, 20, 40) // the kernel fills in the rest (raw(7))
		ip[0], ip[8], ip[9] = 4<<4|5, hops, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], 40)
		copy(ip[12:], g.From.Addr().AsSlice())
		copy(ip[16:], g.To.Addr().AsSlice())
	} else {
		ip = make([]byte, 40, 60)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, hops
		binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
		copy(ip[8:], g.From.Addr().AsSlice())
		copy(ip[24:], g.To.Addr().AsSlice())
	}
	return append(ip, tcp...)
}
