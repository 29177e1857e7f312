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
	"dragnet/contain/ripcord/letter"
	"dragnet/contain/ripcord/state"
	"dragnet/packet"
)

// desk answers letters, from the host's address and through the interface to
// the network.
type desk struct {
	prover *letter.Prover
	index  int
	mu     sync.Mutex
	socket int

	// What only the goroutine that answers touches.
	used   map[[8]byte]done
	second int64
	left   int
}

// done is a request that was granted: asking again changes nothing.
type done struct{ at, until time.Time }

// maxUsed bounds the memory of used requests.
const maxUsed = 4096

func openDesk(g *Gateway) (*desk, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // receives nothing
	if err != nil {
		return nil, fmt.Errorf("socket for answers: %w", err)
	}
	var key [32]byte
	rand.Read(key[:])
	return &desk{prover: letter.NewProver(key), index: g.net.Index, socket: fd, used: map[[8]byte]done{}}, nil
}

func (d *desk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := unix.Close(d.socket)
	d.socket = -1
	return err
}

// answer reads letters until their stream is closed.
func (g *Gateway) answer() {
	for {
		l, err := g.letters.Read()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			g.log.Error("read letters", "err", err)
			return
		}
		now := time.Now()
		if !g.desk.budget(now, g.config.Pull.PerSecond) {
			continue
		}
		if err := g.reply(l, now); err != nil {
			g.log.Warn("letter", "err", err)
		}
	}
}

// budget bounds what letters cost.
func (d *desk) budget(now time.Time, perSecond int) bool {
	if s := now.Unix(); s != d.second {
		d.second, d.left = s, perSecond
	}
	d.left--
	return d.left >= 0
}

func (g *Gateway) reply(in bpf.Letter, now time.Time) error {
	var p packet.Packet
	if err := p.Decode(packet.LinkEthernet, in.Frame, len(in.Frame)); err != nil || p.Checksum() == packet.ChecksumBad {
		return nil // as a host would
	}
	l, err := letter.Parse(p.Payload)
	if err != nil {
		return err
	}
	to := envelope{frame: in, host: netip.AddrPortFrom(p.Dst, p.DstPort)}
	switch l.Kind {
	case letter.Ask:
		for _, c := range g.desk.prover.Challenges(p.Dst, l, now) {
			out := *l
			out.Kind, out.Proofs = letter.Challenge, []letter.Proof{c}
			if err := g.desk.send(to.to(netip.AddrPortFrom(c.Address, p.SrcPort)), &out); err != nil {
				return err
			}
		}
		return nil
	case letter.Pull:
		out := *l
		out.Kind, out.Proofs = letter.Answer, nil
		out.Status, out.Seconds = g.pulled(p.Dst, l, now)
		return g.desk.send(to.to(netip.AddrPortFrom(p.Src, p.SrcPort)), &out)
	}
	return nil
}

// pulled ends a conversation, if all is as it must be.
func (g *Gateway) pulled(host netip.Addr, l *letter.Letter, now time.Time) (letter.Status, uint32) {
	d := g.desk
	for id, u := range d.used {
		if now.Sub(u.at) > letter.Lifetime {
			delete(d.used, id)
		}
	}
	before, used := d.used[l.ID]
	k := l.Principals()
	switch {
	case !d.prover.Check(host, l, now):
		return letter.Unproven, 0
	case used:
		return letter.Done, uint32(max(0, before.until.Sub(now)).Seconds())
	case g.observe:
		return letter.Observing, 0
	case !g.recently(k, bootMS()):
		return letter.Inactive, 0
	case len(d.used) >= maxUsed:
		return letter.Busy, 0
	}
	last := min(time.Duration(l.Seconds)*time.Second, g.config.Pull.Longest)
	stop := state.Stop{Until: bootMS() + ms(last)}
	if err := g.wire.PutStop(k, stop); err != nil {
		g.log.Warn("pull", "err", err)
		return letter.Busy, 0
	}
	// Fragments behind the first have no ports: they stop with the rest.
	k.HPort, k.PPort, k.Later = 0, 0, true
	if err := g.wire.PutStop(k, stop); err != nil {
		g.log.Warn("pull: fragments go on", "err", err)
	}
	d.used[l.ID] = done{now, now.Add(last)}
	g.log.Info("pulled", "peer", l.Peer, "proto", l.Proto, "host port", l.HPort, "peer port", l.PPort, "for", last)
	err := g.record.write(now, fmt.Sprintf("conversation of %v (port %d) with %v (port %d), protocol %d, pulled, until %s",
		host, l.HPort, l.Peer, l.PPort, l.Proto, now.Add(last).UTC().Format(time.RFC3339)))
	if err != nil {
		g.log.Error("record of a block", "err", err)
	}
	return letter.Done, uint32(last.Seconds())
}

// recently tells whether the host takes part in a conversation.
func (g *Gateway) recently(k state.Principals, now uint32) bool {
	active := ms(g.config.Pull.Active)
	matches := func(peer netip.Addr, hport, pport uint16, proto uint8, last uint32) bool {
		return now-last <= active && k.Peer.Contains(netip.AddrFrom16(peer.As16())) && (k.Proto == 0 || k.Proto == proto) &&
			(k.HPort == 0 || k.HPort == hport) && (k.PPort == 0 || k.PPort == pport)
	}
	for t, last := range g.wire.Talks() {
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

// envelope is where a letter goes.
type envelope struct {
	frame bpf.Letter
	host  netip.AddrPort
	peer  netip.AddrPort
}

func (e envelope) to(peer netip.AddrPort) envelope {
	e.peer = peer
	return e
}

// send writes the frame back where the letter came from, with the host's
// addresses: its MAC is the one that the letter was for.
func (d *desk) send(e envelope, l *letter.Letter) error {
	in := e.frame.Frame
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
	frame = datagram(frame, e.host, e.peer, l.Append(nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket < 0 {
		return nil
	}
	if err := unix.Sendto(d.socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: d.index}); err != nil {
		return fmt.Errorf("send a letter: %w", err)
	}
	return nil
}
