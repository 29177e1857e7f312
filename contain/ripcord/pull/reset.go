//go:build linux

package pull

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/packet"
)

// etherAll is ETH_P_ALL in network order.
const etherAll = unix.ETH_P_ALL << 8

// watchPackets reads packets from the host to us, until see returns true.
func (r *Request) watchPackets(ctx context.Context, see func(p *packet.Packet) bool) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, etherAll)
	if err != nil {
		return fmt.Errorf("watch packets: %w: this needs CAP_NET_RAW", err)
	}
	f := os.NewFile(uintptr(fd), "packets")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 1<<17)
	for {
		n, err := f.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("watch packets: %w", err)
		}
		var p packet.Packet
		if p.DecodeIP(buf[:n], n) != nil || p.Src != r.Host || !r.matchesPacket(&p) {
			continue
		}
		if see(&p) {
			return nil
		}
	}
}

func (r *Request) matchesPacket(p *packet.Packet) bool {
	return (!r.Peer.IsValid() || r.Peer.Contains(p.Dst)) && (r.Proto == 0 || uint8(p.Proto) == r.Proto) &&
		(r.HPort == 0 || r.HPort == p.SrcPort) && (r.PPort == 0 || r.PPort == p.DstPort)
}

// CountPackets counts the packets of the conversation that the host still sends
// during watch.
func CountPackets(ctx context.Context, r Request, watch time.Duration) (packets int, err error) {
	ctx, cancel := context.WithTimeout(ctx, watch)
	defer cancel()
	err = r.watchPackets(ctx, func(*packet.Packet) bool { packets++; return false })
	if ctx.Err() != nil {
		err = nil
	}
	return packets, err
}

// Reset waits for a segment of the conversation and answers it as a host does
// that knows no such connection (RFC 9293, section 3.10.7.1).
func Reset(ctx context.Context, r Request) error {
	r.Proto = 6
	var answer []byte
	var to unix.Sockaddr
	err := r.watchPackets(ctx, func(p *packet.Packet) bool {
		if !p.Decoded || p.Flags&4 != 0 {
			return false
		}
		answer, to = makeReset(p)
		return true
	})
	if err != nil {
		return fmt.Errorf("wait for a segment to answer: %w", err)
	}
	family := unix.AF_INET
	if r.Host.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("send a RST: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, answer, 0, to); err != nil {
		return fmt.Errorf("send a RST: %w", err)
	}
	return nil
}

// makeReset makes the RST that answers a segment, with its IP header.
func makeReset(p *packet.Packet) ([]byte, unix.Sockaddr) {
	t := make([]byte, 20)
	binary.BigEndian.PutUint16(t, p.DstPort)
	binary.BigEndian.PutUint16(t[2:], p.SrcPort)
	t[12] = 5 << 4
	if p.Flags&16 != 0 {
		binary.BigEndian.PutUint32(t[4:], p.Ack)
		t[13] = 4
	} else {
		end := p.Seq + uint32(p.PayloadLen) + uint32(p.Flags>>1&1) + uint32(p.Flags&1)
		binary.BigEndian.PutUint32(t[8:], end)
		t[13] = 4 | 16
	}
	binary.BigEndian.PutUint16(t[16:], tcpChecksum(p.Dst, p.Src, t))
	if p.Src.Is4() {
		h := make([]byte, 20, 40) // the kernel fills in length and checksum
		h[0], h[8], h[9] = 0x45, 64, 6
		copy(h[12:], p.Dst.AsSlice())
		copy(h[16:], p.Src.AsSlice())
		return append(h, t...), &unix.SockaddrInet4{Addr: p.Src.As4()}
	}
	h := make([]byte, 40, 60)
	h[0], h[5], h[6], h[7] = 0x60, 20, 6, 64
	copy(h[8:], p.Dst.AsSlice())
	copy(h[24:], p.Src.AsSlice())
	return append(h, t...), &unix.SockaddrInet6{Addr: p.Src.As16()}
}

// tcpChecksum is that of a TCP header without payload.
func tcpChecksum(src, dst netip.Addr, t []byte) uint16 {
	s := uint32(len(t)) + 6
	for _, b := range [][]byte{src.AsSlice(), dst.AsSlice(), t} {
		for i := 0; i+1 < len(b); i += 2 {
			s += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
