//go:build linux

package ripcord

import (
	"context"
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
	"dragnet/contain/ripcord/tables"
	"dragnet/flow"
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
	asked  map[netip.Prefix]int // requests of this second, by victims
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
	return &responder{prover: message.NewProver(key), index: g.net.Index, socket: fd, used: map[[8]byte]grant{}, asked: map[netip.Prefix]int{}}, nil
}

func (d *responder) closeSocket() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := unix.Close(d.socket)
	d.socket = -1
	return err
}

// answerMessages reads messages until their stream is closed.
func (g *Gateway) answerMessages(context.Context) {
	for {
		l, err := g.frames.Read()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			g.log.Error("read messages failed", "err", err)
			return
		}
		if err := g.answerMessage(l, time.Now()); err != nil {
			g.log.Warn("answer message failed", "err", err)
		}
	}
}

// maxVictims bounds the memory of a second's requests. Each entry is a peer that the
// host sends to.
const maxVictims = 4096

// allowAsk bounds the requests answered per second in a victim's name.
func (d *responder) allowAsk(victim netip.Prefix, now time.Time, perSecond int) bool {
	if s := now.Unix(); s != d.second {
		d.second = s
		clear(d.asked)
	}
	block := victimBlock(victim)
	if _, known := d.asked[block]; !known && len(d.asked) >= maxVictims {
		return false
	}
	d.asked[block]++
	return d.asked[block] <= perSecond
}

// victimBlock is the unit of limits: the /24 or /48 of a victim, or its prefix if
// that is larger.
func victimBlock(p netip.Prefix) netip.Prefix {
	bits := 48
	if p.Addr().Is4() {
		bits = 24
	}
	block, _ := p.Addr().Prefix(min(bits, p.Bits()))
	return block
}

// findHop finds how the host reaches a victim. What the gateway sends to one
// leaves the same way: a neighbour who asks in its name gets nothing.
func (g *Gateway) findHop(victim netip.Prefix) (hop tables.Hop, ok bool) {
	if victim.IsSingleIP() {
		return g.wire.Hop(victim.Addr())
	}
	for a, h := range g.wire.Hops() {
		if victim.Contains(a) {
			return h, true
		}
	}
	return hop, false
}

func (g *Gateway) answerMessage(in bpf.Frame, now time.Time) error {
	var p packet.Packet
	if err := p.Decode(packet.LinkEthernet, in.Data, len(in.Data)); err != nil || p.Checksum() == packet.ChecksumBad {
		return nil // ignore it, as a host would
	}
	l, err := message.Parse(p.Payload)
	if err != nil {
		return nil // anybody can send anything
	}
	hop, ok := g.findHop(l.Peer)
	if !ok {
		return nil // the host does not send there
	}
	to := destination{hop: hop, host: netip.AddrPortFrom(p.Dst, p.DstPort)}
	switch l.Kind {
	case message.Ask:
		if !g.responder.allowAsk(l.Peer, now, g.config.Pull.PerSecond) {
			return nil
		}
		for _, c := range g.responder.prover.Challenges(p.Dst, l, now) {
			out := *l
			out.Kind, out.Proofs = message.Challenge, []message.Proof{c}
			if err := g.responder.sendMessage(to.withPeer(netip.AddrPortFrom(c.Address, p.SrcPort)), &out); err != nil {
				return err
			}
		}
	case message.Pull:
		out := *l
		out.Kind, out.Proofs = message.Answer, nil
		out.Status, out.Seconds = g.endConversation(p.Dst, l, now)
		g.pulls.WithLabelValues(out.Status.String()).Inc()
		return g.responder.sendMessage(to.withPeer(netip.AddrPortFrom(p.Src, p.SrcPort)), &out)
	}
	return nil
}

// Limits of the stops in force, so that one victim leaves room for others: in
// all, of a /16 or /32, and of a /24 or /48.
const (
	maxStops       = 8192
	maxStopsRegion = 1024
	maxStopsBlock  = 64
)

// hasRoom reports whether another stop may be made for a victim.
func (g *Gateway) hasRoom(victim netip.Prefix) bool {
	block := victimBlock(victim)
	bits := 32
	if victim.Addr().Is4() {
		bits = 16
	}
	region, _ := victim.Addr().Prefix(min(bits, victim.Bits()))
	all, near, own := 0, 0, 0
	for k, s := range g.wire.Stops() {
		if k.Later || s.SYNOnly != 0 {
			continue
		}
		all++
		p := unmapPrefix(k.Peer)
		if region.Overlaps(p) {
			near++
		}
		if block.Overlaps(p) {
			own++
		}
	}
	return all < maxStops && near < maxStopsRegion && own < maxStopsBlock
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
	case len(d.used) >= maxUsed || !g.hasRoom(l.Peer):
		return message.Busy, 0
	}
	last := min(time.Duration(l.Seconds)*time.Second, g.config.Pull.Longest)
	stop := tables.Stop{Until: bootMS() + toMilliseconds(last)}
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
	g.noteRequest(silenceRequest{
		at: now, host: netip.AddrPortFrom(host, l.HPort), peer: netip.AddrPortFrom(l.Peer.Addr(), l.PPort), proto: flow.Proto(l.Proto), pull: true,
	})
	err := g.record.writeReceipt(now, fmt.Sprintf("conversation of %v (port %d) with %v (port %d), protocol %d, pulled, until %s",
		host, l.HPort, l.Peer, l.PPort, l.Proto, now.Add(last).UTC().Format(time.RFC3339)))
	if err != nil {
		g.log.Error("record block failed", "err", err)
	}
	return message.Done, uint32(last.Seconds())
}

// wasActive reports whether the host took part in a conversation recently.
func (g *Gateway) wasActive(k tables.Principals, now uint32) bool {
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
		g.wire.Conns(func(e tables.Ends, c tables.Conn) bool {
			found = matches(e.Peer.Addr(), e.Host.Port(), e.Peer.Port(), 6, c.Sent)
			return !found
		})
	}
	return found
}

// destination is where a message goes.
type destination struct {
	hop  tables.Hop
	host netip.AddrPort
	peer netip.AddrPort
}

func (e destination) withPeer(peer netip.AddrPort) destination {
	e.peer = peer
	return e
}

// sendMessage sends a message as the host sends to its peers: from its MAC and IP
// addresses, to its next hop.
func (d *responder) sendMessage(e destination, l *message.Message) error {
	frame := append(append(make([]byte, 0, 256), e.hop.Next[:]...), e.hop.Own[:]...)
	if e.hop.VLAN != 0 {
		frame = binary.NativeEndian.AppendUint16(frame, uint16(e.hop.VLAN>>16)) // as the kernel has it
		frame = binary.BigEndian.AppendUint16(frame, uint16(e.hop.VLAN))
	}
	kind := uint16(0x86dd)
	if e.host.Addr().Is4() {
		kind = 0x0800
	}
	frame = binary.BigEndian.AppendUint16(frame, kind)
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
