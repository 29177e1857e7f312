//go:build linux

package ripcord

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/message"
	"dragnet/contain/ripcord/state"
	"dragnet/packet"
)

// responder answers messages, from the host's address and through the interface
// to the network.
type responder struct {
	prover *message.Prover
	index  int
	mu     sync.Mutex
	socket int

	// Used only by the goroutine of answerMessages.
	used   map[[8]byte]grant
	second int64
	left   int
}

// grant is a request that was granted: repeating it changes nothing.
type grant struct{ at, until time.Time }

// maxUsed bounds the memory of used requests.
const maxUsed = 4096

func openResponder(g *Gateway) (*responder, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // receives nothing
	if err != nil {
		return nil, fmt.Errorf("socket for answers: %w", err)
	}
	var key [32]byte
	rand.Read(key[:])
	return &responder{prover: message.NewProver(key), index: g.net.Index, socket: fd, used: map[[8]byte]grant{}}, nil
}

func (d *responder) closeSocket() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := unix.Close(d.socket)
	d.socket = -1
	return err
}

// answerMessages reads messages until their stream is closed.
func (g *Gateway) answerMessages() {
	for {
		l, err := g.frames.Read()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			g.log.Error("read messages failed", "err", err)
			return
		}
		now := time.Now()
		if !g.responder.allowMessage(now, g.config.Pull.PerSecond) {
			continue
		}
		if err := g.answerMessage(l, now); err != nil {
			g.log.Warn("answer message failed", "err", err)
		}
	}
}

// allowMessage bounds the number of messages answered per second.
func (d *responder) allowMessage(now time.Time, perSecond int) bool {
	if s := now.Unix(); s != d.second {
		d.second, d.left = s, perSecond
	}
	d.left--
	return d.left >= 0
}

func (g *Gateway) answerMessage(in bpf.Frame, now time.Time) error {
	var p packet.Packet
	if err := p.Decode(packet.LinkEthernet, in.Data, len(in.Data)); err != nil || p.Checksum() == packet.ChecksumBad {
		return nil // ignore it, as a host would
	}
	l, err := message.Parse(p.Payload)
	if err != nil {
		return err
	}
	to := destination{frame: in, host: netip.AddrPortFrom(p.Dst, p.DstPort)}
	switch l.Kind {
	case message.Ask:
		for _, c := range g.responder.prover.Challenges(p.Dst, l, now) {
			out := *l
			out.Kind, out.Proofs = message.Challenge, []message.Proof{c}
			if err := g.responder.sendMessage(to.withPeer(netip.AddrPortFrom(c.Address, p.SrcPort)), &out); err != nil {
				return err
			}
		}
		return nil
	case message.Pull:
		out := *l
		out.Kind, out.Proofs = message.Answer, nil
		out.Status, out.Seconds = g.endConversation(p.Dst, l, now)
		return g.responder.sendMessage(to.withPeer(netip.AddrPortFrom(p.Src, p.SrcPort)), &out)
	}
	return nil
}

// endConversation ends a conversation, if the request is valid.
func (g *Gateway) endConversation(host netip.Addr, l *message.Message, now time.Time) (message.Status, uint32) {
	d := g.responder
	for id, u := range d.used {
		if now.Sub(u.at) > message.Lifetime {
			delete(d.used, id)
		}
	}
	before, used := d.used[l.ID]
	k := l.Principals()
	switch {
	case !d.prover.Check(host, l, now):
		return message.Unproven, 0
	case used:
		return message.Done, uint32(max(0, before.until.Sub(now)).Seconds())
	case g.observe:
		return message.Observing, 0
	case !g.wasActive(k, bootMS()):
		return message.Inactive, 0
	case len(d.used) >= maxUsed:
		return message.Busy, 0
	}
	last := min(time.Duration(l.Seconds)*time.Second, g.config.Pull.Longest)
	stop := state.Stop{Until: bootMS() + toMilliseconds(last)}
	if err := g.wire.PutStop(k, stop); err != nil {
		g.log.Warn("stop conversation failed", "err", err)
		return message.Busy, 0
	}
	// Fragments after the first have no ports: they stop with the rest.
	k.HPort, k.PPort, k.Later = 0, 0, true
	if err := g.wire.PutStop(k, stop); err != nil {
		g.log.Warn("stop fragments of the conversation failed", "err", err)
	}
	d.used[l.ID] = grant{now, now.Add(last)}
	g.log.Info("conversation ended by its peer", "peer", l.Peer, "proto", l.Proto, "host_port", l.HPort, "peer_port", l.PPort, "for", last)
	err := g.record.writeReceipt(now, fmt.Sprintf("conversation of %v (port %d) with %v (port %d), protocol %d, pulled, until %s",
		host, l.HPort, l.Peer, l.PPort, l.Proto, now.Add(last).UTC().Format(time.RFC3339)))
	if err != nil {
		g.log.Error("record block failed", "err", err)
	}
	return message.Done, uint32(last.Seconds())
}

// wasActive reports whether the host took part in a conversation recently.
func (g *Gateway) wasActive(k state.Principals, now uint32) bool {
	active := toMilliseconds(g.config.Pull.Active)
	matches := func(peer netip.Addr, hport, pport uint16, proto uint8, last uint32) bool {
		return now-last <= active && k.Peer.Contains(netip.AddrFrom16(peer.As16())) && (k.Proto == 0 || k.Proto == proto) &&
			(k.HPort == 0 || k.HPort == hport) && (k.PPort == 0 || k.PPort == pport)
	}
	for t, last := range g.wire.Conversations() {
		if matches(t.Peer, t.HPort, t.PPort, t.Proto, last) {
			return true
		}
	}
	found := false
	if k.Proto == 0 || k.Proto == 6 {
		g.wire.Conns(func(e state.Ends, c state.Conn) bool {
			found = matches(e.Peer.Addr(), e.Host.Port(), e.Peer.Port(), 6, c.Sent)
			return !found
		})
	}
	return found
}

// destination is where a message goes.
type destination struct {
	frame bpf.Frame
	host  netip.AddrPort
	peer  netip.AddrPort
}

func (e destination) withPeer(peer netip.AddrPort) destination {
	e.peer = peer
	return e
}

// sendMessage sends the frame back to where the message came from, with the
// host's addresses: its MAC is the destination of the message.
func (d *responder) sendMessage(e destination, l *message.Message) error {
	in := e.frame.Data
	frame := append(append(make([]byte, 0, 256), in[6:12]...), in[:6]...)
	if e.frame.VLANProto != 0 {
		frame = binary.BigEndian.AppendUint16(frame, e.frame.VLANProto)
		frame = binary.BigEndian.AppendUint16(frame, e.frame.VLAN)
	}
	at := 12
	for kind := binary.BigEndian.Uint16(in[at:]); kind == 0x8100 || kind == 0x88a8; kind = binary.BigEndian.Uint16(in[at:]) {
		frame = append(frame, in[at:at+4]...)
		at += 4
	}
	frame = append(frame, in[at:at+2]...)
	frame = appendDatagram(frame, e.host, e.peer, l.Append(nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket < 0 {
		return nil
	}
	if err := unix.Sendto(d.socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: d.index}); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}
