//go:build linux

package array

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/internal/run"
	"dragnet/trap/emulate"
	"dragnet/trap/session"
)

// Totals count sessions since the start.
type Totals struct {
	// Taken sessions were recorded, Refused ones were beyond the bounds.
	Taken, Refused uint64
	// Open sessions are being served.
	Open int
	// Datagrams were received over UDP.
	Datagrams uint64
}

// Array serves what is redirected to it.
type Array struct {
	c      Configuration
	record func(*session.Session)
	log    *slog.Logger
	now    func() time.Time
	group  *run.Group

	tcp       []net.Listener
	udp       []*udpSocket
	memory    *session.Memory
	taken     atomic.Uint64
	refused   atomic.Uint64
	datagrams atomic.Uint64

	mu        sync.Mutex // guards all below
	perClient map[netip.Addr]int
	open      map[net.Conn]bool
	exchanges map[exchangeKey]*exchange
}

// Dependencies of an array.
type Dependencies struct {
	// Record is called with each session that has ended, from several goroutines.
	Record func(*session.Session)
	Log    *slog.Logger
}

// New makes an array; Start starts it.
func New(c Configuration, d Dependencies) (*Array, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Array{
		c: c, record: d.Record, log: d.Log, now: time.Now, group: run.NewGroup(), memory: session.NewMemory(c.MemoryBytes),
		perClient: map[netip.Addr]int{}, open: map[net.Conn]bool{}, exchanges: map[exchangeKey]*exchange{},
	}, nil
}

// Start listens, in the calling thread's network namespace. It needs
// CAP_NET_ADMIN, for sockets that take connections to any address.
func (a *Array) Start(ctx context.Context) error {
	for _, network := range []string{"tcp4", "tcp6"} {
		config := net.ListenConfig{Control: makeTransparent, KeepAlive: -1}
		l, err := config.Listen(ctx, network, fmt.Sprintf(":%d", a.c.Port))
		if err != nil {
			return errors.Join(fmt.Errorf("outbound array: %w", err), a.closeSockets())
		}
		a.tcp = append(a.tcp, l)
	}
	for _, v6 := range []bool{false, true} {
		s, err := openUDP(ctx, a.c.Port, v6)
		if err != nil {
			return errors.Join(fmt.Errorf("outbound array: %w", err), a.closeSockets())
		}
		a.udp = append(a.udp, s)
	}
	for _, l := range a.tcp {
		a.group.Go(func(context.Context) error { return a.accept(l) })
	}
	for _, s := range a.udp {
		a.group.Go(func(ctx context.Context) error { return a.receive(ctx, s) })
	}
	a.group.Go(a.expire)
	return nil
}

// Failed receives the error that ended the array.
func (a *Array) Failed() <-chan error { return a.group.Failed() }

// Stop ends all sessions, which are recorded up to there.
func (a *Array) Stop(ctx context.Context) error {
	err := a.closeSockets()
	a.mu.Lock()
	for c := range a.open {
		c.Close()
	}
	a.mu.Unlock()
	err = errors.Join(err, a.group.Stop(ctx))
	a.endExchanges(func(*exchange) bool { return true }, "stopped")
	return err
}

// Totals counts sessions.
func (a *Array) Totals() Totals {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Totals{Taken: a.taken.Load(), Refused: a.refused.Load(), Datagrams: a.datagrams.Load(), Open: len(a.open) + len(a.exchanges)}
}

func (a *Array) closeSockets() (err error) {
	for _, l := range a.tcp {
		err = errors.Join(err, l.Close())
	}
	for _, s := range a.udp {
		err = errors.Join(err, s.close())
	}
	return err
}

// makeTransparent lets a socket take what is sent to addresses of others, say
// where that was, and answer under them (ip(7), IP_TRANSPARENT).
func makeTransparent(network, _ string, c syscall.RawConn) (err error) {
	level, transparent, destination := unix.SOL_IP, unix.IP_TRANSPARENT, unix.IP_RECVORIGDSTADDR
	v6 := strings.HasSuffix(network, "6")
	if v6 {
		level, transparent, destination = unix.SOL_IPV6, unix.IPV6_TRANSPARENT, unix.IPV6_RECVORIGDSTADDR
	}
	failed := c.Control(func(descriptor uintptr) {
		fd := int(descriptor)
		err = unix.SetsockoptInt(fd, level, transparent, 1)
		if v6 {
			err = errors.Join(err, unix.SetsockoptInt(fd, level, unix.IPV6_V6ONLY, 1))
		}
		if strings.HasPrefix(network, "udp") {
			err = errors.Join(err, unix.SetsockoptInt(fd, level, destination, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		}
	})
	if err != nil {
		err = fmt.Errorf("transparent socket: %w (it needs CAP_NET_ADMIN)", err)
	}
	return errors.Join(failed, err)
}

func (a *Array) accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // no descriptors, or a client that is gone
			a.log.Warn("accept failed", "err", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		client, server := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
		if !a.enter(c, client.Addr()) {
			a.refused.Add(1)
			c.Close()
			continue
		}
		a.group.GoWithoutError(func(context.Context) { a.serve(c, client, server) })
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// enter admits a connection within the bounds.
func (a *Array) enter(c net.Conn, client netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open)+len(a.exchanges) >= a.c.Sessions || a.perClient[client] >= a.c.PerClient {
		return false
	}
	a.perClient[client]++
	a.open[c] = true
	return true
}

func (a *Array) leave(c net.Conn, client netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
	a.releasePlace(client)
}

// releasePlace is called with mu held.
func (a *Array) releasePlace(client netip.Addr) {
	if a.perClient[client]--; a.perClient[client] <= 0 {
		delete(a.perClient, client)
	}
}

func (a *Array) serve(c net.Conn, client, server netip.AddrPort) {
	defer a.leave(c, client.Addr())
	defer c.Close()
	s := session.Session{Stage: session.Outbound, Client: client, Server: server, Proto: flow.TCP}
	r := a.newRecorder(s)
	var inside *session.Recorder
	k := emulate.NewConn(c, r, a.c.Idle, a.now().Add(a.c.Longest), func(string) *session.Recorder {
		inside = a.newRecorder(s)
		return inside
	})
	reason := emulate.Serve(k, server.Port())
	a.finish(r, reason)
	if inside != nil {
		a.finish(inside, reason)
	}
}

// finish records a session, also one in which the client said nothing: the
// attempt itself is evidence.
func (a *Array) finish(r *session.Recorder, reason string) {
	a.taken.Add(1)
	a.record(r.Finish(reason))
	r.Release()
}

func (a *Array) newRecorder(s session.Session) *session.Recorder {
	r := session.NewRecorder(s, a.c.SessionBytes, a.now)
	r.Share(a.memory)
	return r
}
