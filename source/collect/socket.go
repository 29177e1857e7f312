//go:build linux

package collect

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// socket is one UDP port.
type socket struct {
	conn *net.UDPConn
	// size is the receive buffer the kernel granted, in bytes.
	size int
	oob  [64]byte
	// overflow is the kernel's count of datagrams dropped for lack of room,
	// modulo 2^32; told is how much of it newOverflow gave.
	overflow, told uint32
}

func openSocket(address string, buffer int) (*socket, error) {
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", a)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn}
	raw, err := conn.SyscallConn()
	if err == nil {
		var fault error
		err = raw.Control(func(fd uintptr) { fault = s.prepareBuffer(int(fd), buffer) })
		if err == nil {
			err = fault
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// prepareBuffer sizes the buffer, beyond the system's bound if permitted, and asks
// for the count of dropped datagrams (socket(7), SO_RXQ_OVFL).
func (s *socket) prepareBuffer(fd, buffer int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return err
		}
	}
	doubled, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return err
	}
	s.size = doubled / 2 // the kernel doubles it for its own records
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
}

// receiveDatagram reads one datagram.
func (s *socket) receiveDatagram(b []byte) (n int, from netip.Addr, err error) {
	n, extra, _, peer, err := s.conn.ReadMsgUDPAddrPort(b, s.oob[:])
	if err != nil {
		return 0, netip.Addr{}, err
	}
	for oob := s.oob[:extra]; len(oob) > 0; {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SO_RXQ_OVFL && len(data) >= 4 {
			s.overflow = binary.NativeEndian.Uint32(data)
		}
		oob = rest
	}
	return n, peer.Addr(), nil
}

// newOverflow is how many datagrams were dropped since the last call.
func (s *socket) newOverflow() uint32 {
	n := s.overflow - s.told
	s.told = s.overflow
	return n
}
