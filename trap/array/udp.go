//go:build linux

package array

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/trap/emulate"
	"dragnet/trap/session"
)

// udpSocket receives datagrams to any address.
type udpSocket struct {
	conn    *net.UDPConn
	network string
}

func openUDP(ctx context.Context, port uint16, v6 bool) (*udpSocket, error) {
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	config := net.ListenConfig{Control: makeTransparent}
	c, err := config.ListenPacket(ctx, network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	return &udpSocket{c.(*net.UDPConn), network}, nil // of these networks it is always one
}

func (s *udpSocket) close() error { return s.conn.Close() }

// originalDestination is where a datagram was sent, from its control messages.
func (s *udpSocket) originalDestination(control []byte) (netip.AddrPort, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_ORIGDSTADDR && len(m.Data) >= 8:
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Data[4:8])), binary.BigEndian.Uint16(m.Data[2:])), nil
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_ORIGDSTADDR && len(m.Data) >= 24:
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(m.Data[8:24])), binary.BigEndian.Uint16(m.Data[2:])), nil
		}
	}
	return netip.AddrPort{}, errors.New("the kernel did not say where a datagram was sent")
}

// exchangeKey names an exchange of datagrams.
type exchangeKey struct{ client, server netip.AddrPort }

// exchange is a session over UDP: it ends when the client is silent.
type exchange struct {
	key      exchangeKey
	recorder *session.Recorder
	last     time.Time
	state    emulate.DatagramState
	// credit is how many bytes may be answered: no more than were received.
	credit int
}

// maxDatagram is the longest datagram.
const maxDatagram = 65535

func (a *Array) receive(ctx context.Context, s *udpSocket) error {
	buffer, control := make([]byte, maxDatagram), make([]byte, 256)
	for {
		n, cn, _, from, err := s.conn.ReadMsgUDPAddrPort(buffer, control)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			a.log.Warn("receive failed", "err", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		a.datagrams.Add(1)
		to, err := s.originalDestination(control[:cn])
		if err != nil {
			a.log.Warn("datagram dropped", "err", err)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if answer := a.takeDatagram(exchangeKey{from, to}, buffer[:n]); len(answer) > 0 {
			if err := s.answer(ctx, exchangeKey{from, to}, answer); err != nil {
				a.log.Warn("send answer failed (a port below 1024 needs CAP_NET_BIND_SERVICE)", "client", from, "server", to, "err", err)
			}
		}
	}
}

// takeDatagram records a datagram and returns the answer to it, if the client has
// sent enough to be answered that much.
func (a *Array) takeDatagram(key exchangeKey, b []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.exchanges[key]
	if x == nil {
		if len(a.open)+len(a.exchanges) >= a.c.Sessions || a.perClient[key.client.Addr()] >= a.c.PerClient {
			a.refused.Add(1)
			return nil
		}
		a.perClient[key.client.Addr()]++
		x = &exchange{key: key, recorder: a.newRecorder(session.Session{
			Stage: session.Outbound, Client: key.client, Server: key.server, Proto: flow.UDP,
		})}
		x.recorder.SetService(emulate.DatagramService(key.server.Port()))
		a.exchanges[key] = x
	}
	x.last = a.now()
	x.recorder.Add(false, b)
	x.credit += len(b)
	answer := x.state.Answer(key.server.Port(), b)
	if len(answer) > x.credit {
		return nil
	}
	x.credit -= len(answer)
	x.recorder.Add(true, answer)
	return answer
}

// expire ends exchanges whose clients are silent.
func (a *Array) expire(ctx context.Context) error {
	tick := time.NewTicker(min(time.Second, a.c.Idle))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := a.now()
		a.endExchanges(func(x *exchange) bool { return now.Sub(x.last) > a.c.Idle }, "idle")
	}
}

func (a *Array) endExchanges(over func(*exchange) bool, reason string) {
	a.mu.Lock()
	var ended []*exchange
	for key, x := range a.exchanges {
		if over(x) {
			delete(a.exchanges, key)
			a.releasePlace(key.client.Addr())
			ended = append(ended, x)
		}
	}
	a.mu.Unlock()
	for _, x := range ended {
		a.finish(x.recorder, reason)
	}
}

// answer sends from the address that the client meant.
func (s *udpSocket) answer(ctx context.Context, key exchangeKey, b []byte) error {
	config := net.ListenConfig{Control: makeTransparent}
	c, err := config.ListenPacket(ctx, s.network, key.server.String())
	if err != nil {
		return err
	}
	_, err = c.WriteTo(b, net.UDPAddrFromAddrPort(key.client))
	return errors.Join(err, c.Close())
}
