//go:build linux

package pull

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/contain/reset"
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
	var answer reset.Segment
	err := r.watchPackets(ctx, func(p *packet.Packet) bool {
		if !p.Decoded || p.Flags&4 != 0 {
			return false
		}
		answer = reset.AnswerTo(p)
		return true
	})
	if err != nil {
		return fmt.Errorf("wait for a segment to answer: %w", err)
	}
	socket, err := reset.Open()
	if err != nil {
		return fmt.Errorf("send a RST: %w", err)
	}
	defer socket.Close()
	if err := socket.Send(answer); err != nil {
		return fmt.Errorf("send a RST: %w", err)
	}
	return nil
}
