package ripcord_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/internal/netlab"
)

// connections counts connections that carried a request and its answer.
type connections struct {
	done, failed atomic.Int64
	why          map[string]int // of those that failed; read when run has returned
}

// poller waits for sockets of one thread; what is registered reports once.
type poller struct {
	fd     int
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{fd: fd}, err
}

func (p *poller) add(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait returns what is ready, after 50 ms at most.
func (p *poller) wait() []unix.EpollEvent {
	n, err := unix.EpollWait(p.fd, p.events[:], 50)
	if err != nil {
		n = 0
	}
	return p.events[:n]
}

// serveShort answers each connection to a port of a node with one octet for one
// octet and closes it, until ctx ends. It works on bare sockets in one thread, so that
// as much as possible of the processor's time is the kernel's and the gateway's.
func serveShort(ctx context.Context, n *netlab.Node, at netip.AddrPort) error {
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		p, err := newPoller()
		if err != nil {
			return err
		}
		defer unix.Close(p.fd)
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}),
			unix.Listen(fd, 4096), p.add(fd, unix.EPOLLIN),
		)
		b := make([]byte, 1)
		answer := func(c int) bool {
			n, err := unix.Read(c, b)
			if err == unix.EAGAIN {
				return false
			}
			if n == 1 {
				unix.Write(c, b)
			}
			unix.Close(c)
			return true
		}
		for err == nil && ctx.Err() == nil {
			for _, e := range p.wait() {
				if int(e.Fd) != fd {
					answer(int(e.Fd))
					continue
				}
				for range 64 {
					c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
					if err != nil {
						break
					}
					if !answer(c) {
						p.add(c, unix.EPOLLIN)
					}
				}
			}
		}
		return err
	})
}

// caller opens connections from a node, many at a time, in one thread.
type caller struct {
	to        netip.AddrPort
	atOnce    int // connections
	perSecond int // at most; 0 is as many as go
	connections

	poller *poller
	open   map[int]call
	next   int
}

// call is a connection that is opened, asks, and waits for the end.
type call struct {
	since time.Time
	asked bool
	got   bool
}

// run opens connections until ctx ends.
func (c *caller) run(ctx context.Context, n *netlab.Node) error {
	return n.Do(func() (err error) {
		if c.poller, err = newPoller(); err != nil {
			return err
		}
		defer unix.Close(c.poller.fd)
		c.open, c.why = map[int]call{}, map[string]int{}
		start, swept := time.Now(), time.Now()
		for ctx.Err() == nil {
			due := c.next + c.atOnce
			if c.perSecond > 0 {
				due = int(time.Since(start).Seconds() * float64(c.perSecond))
			}
			for c.next < due && len(c.open) < c.atOnce {
				if err := c.begin(); err != nil {
					return err
				}
			}
			for _, e := range c.poller.wait() {
				c.step(int(e.Fd))
			}
			if time.Since(swept) > time.Second {
				swept = time.Now()
				for fd, call := range c.open {
					if swept.Sub(call.since) > 3*time.Second {
						c.end(fd, fmt.Sprintf("no answer within 3 s, asked: %v, got: %v", call.asked, call.got))
					}
				}
			}
		}
		for fd := range c.open {
			unix.Close(fd)
		}
		return nil
	})
}

func (c *caller) begin() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: callerAddr(c.next).As4()}),
		c.poller.add(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLET),
	)
	c.next++
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: c.to.Addr().As4(), Port: int(c.to.Port())})
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return errors.Join(err, unix.Close(fd))
	}
	c.open[fd] = call{since: time.Now()}
	return nil
}

// step goes on with a connection whose socket is ready.
func (c *caller) step(fd int) {
	call, ok := c.open[fd]
	if !ok {
		return
	}
	b := [1]byte{1}
	if !call.asked {
		switch _, err := unix.Write(fd, b[:]); {
		case err == unix.EAGAIN:
			return
		case err != nil:
			c.end(fd, "write: "+err.Error())
			return
		}
		call.asked = true
	}
	for {
		n, err := unix.Read(fd, b[:])
		switch {
		case err == unix.EAGAIN:
			c.open[fd] = call
			return
		case err != nil:
			c.end(fd, fmt.Sprintf("read: %v, got: %v", err, call.got))
			return
		case n == 0 && !call.got:
			c.end(fd, "closed without an answer")
			return
		case n == 0:
			c.end(fd, "")
			return
		}
		call.got = true
	}
}

// end closes a connection; why is empty if it was served.
func (c *caller) end(fd int, why string) {
	unix.Close(fd)
	delete(c.open, fd)
	if why == "" {
		c.done.Add(1)
	} else {
		c.failed.Add(1)
		c.why[why]++
	}
}

// callerAddrs is how many addresses the machine outside calls from, so that it uses
// no port again within seconds.
const callerAddrs = 32

func callerAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 7, 0, byte(16 + i%callerAddrs)})
}

// rateLab is a lab whose host serves, joined in one of several ways.
func rateLab(t testing.TB, kind string) (*lab, netip.AddrPort) { return rateLabWith(t, kind, "") }

func rateLabWith(t testing.TB, kind, config string) (*lab, netip.AddrPort) {
	t.Helper()
	l := newLab(t, false, "learn: {ipv4: 2}\n"+config) // a player, and a kernel
	at := netip.AddrPortFrom(hostIPs[0], 80)
	for i := range callerAddrs {
		l.check(l.victim.Address("eth0", netip.PrefixFrom(callerAddr(i), 24)))
	}
	l.check(errors.Join(
		l.victim.Sysctl("net.ipv4.ip_local_port_range", "1024 65535"),
		l.host.Sysctl("net.core.somaxconn", "4096"), l.host.Sysctl("net.ipv4.tcp_max_syn_backlog", "4096"),
	))
	switch kind {
	case "bridge":
		l.check(l.gateway.Bridge("br0", "inside", "outside"))
	case "conntrack":
		l.check(l.gateway.Bridge("br0", "inside", "outside"))
		l.check(conntrack(l.gateway))
	case "redirect":
		l.check(bare(l.gateway, "inside", "outside"))
	default:
		l.start()
	}
	return l, at
}

// conntrack has a bridge track connections, and drop what belongs to none.
func conntrack(n *netlab.Node) error {
	err := n.Sysctl("net.bridge.bridge-nf-call-iptables", "1")
	for _, rule := range [][]string{
		{"add", "table", "ip", "f"},
		{"add", "chain", "ip", "f", "c", "{ type filter hook forward priority 0; }"},
		{"add", "rule", "ip", "f", "c", "ct", "state", "invalid", "drop"},
		{"add", "rule", "ip", "f", "c", "ct", "state", "new,established,related", "accept"},
	} {
		_, run := n.Run(context.Background(), "nft", rule...)
		err = errors.Join(err, run)
	}
	// Players leave TCP's checksum as it was.
	return errors.Join(err, n.Sysctl("net.netfilter.nf_conntrack_checksum", "0"))
}

// callFor opens connections for some time and returns how many were served a second.
func (l *lab) callFor(at netip.AddrPort, d time.Duration, perSecond int) (rate float64, failed int64) {
	l.t.Helper()
	serving, stop := context.WithCancel(l.t.Context())
	defer stop()
	served := make(chan error)
	go func() { served <- serveShort(serving, l.host, at) }()
	time.Sleep(20 * time.Millisecond)
	c := caller{to: at, atOnce: 64, perSecond: perSecond}
	ctx, cancel := context.WithTimeout(l.t.Context(), d)
	defer cancel()
	start := time.Now()
	err := c.run(ctx, l.victim)
	took := time.Since(start)
	stop()
	l.check(errors.Join(err, <-served))
	return float64(c.done.Load()) / took.Seconds(), c.failed.Load()
}

// BenchmarkConnections opens connections to a server behind a bridge, a bridge that
// tracks connections, a bare redirect and the gateway in turn, as fast as it goes.
func BenchmarkConnections(b *testing.B) {
	needs(b, "nft")
	labs, ats := map[string]*lab{}, map[string]netip.AddrPort{}
	for _, kind := range []string{"bridge", "conntrack", "redirect", "ripcord"} {
		labs[kind], ats[kind] = rateLab(b, kind)
	}
	rates := map[string][]float64{}
	for b.Loop() {
		for kind, l := range labs {
			rate, failed := l.callFor(ats[kind], 2*time.Second, 0)
			rates[kind] = append(rates[kind], rate)
			if failed > 0 {
				b.Logf("%s: %d connections failed", kind, failed)
			}
		}
	}
	report(b, rates, "conn/s")
}

// BenchmarkPlayedConnections plays both ends without a kernel's TCP (see player), so
// that more connections a second reach the gateway than two cores can open with
// sockets.
func BenchmarkPlayedConnections(b *testing.B) {
	needs(b, "nft")
	all := map[string]*players{}
	for _, kind := range []string{"bridge", "conntrack", "redirect", "ripcord"} {
		l, _ := rateLab(b, kind)
		all[kind] = l.players()
	}
	for _, perSecond := range []int{20_000, 100_000} {
		b.Run(fmt.Sprint(perSecond), func(b *testing.B) {
			rates := map[string][]float64{}
			for b.Loop() {
				for kind, p := range all {
					opened, done := p.play(5*time.Second, perSecond)
					rates[kind] = append(rates[kind], float64(done)/5)
					if done < opened {
						b.Logf("%s: %d of %d connections were not completed", kind, opened-done, opened)
					}
				}
			}
			report(b, rates, "conn/s")
		})
	}
}
