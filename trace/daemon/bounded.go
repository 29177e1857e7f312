//go:build linux

package daemon

import (
	"net"
	"net/netip"
	"sync"
)

// Bounds of connections to the calls' port, where anybody may connect before the
// handshake shows who it is.
const (
	maxCalls        = 64
	maxCallsPerHost = 8
)

// boundedListener closes connections beyond the bounds at once.
type boundedListener struct {
	net.Listener
	mu    sync.Mutex // guards below
	total int
	open  map[netip.Addr]int
}

func newBoundedListener(l net.Listener) *boundedListener {
	return &boundedListener{Listener: l, open: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if remote, ok := c.RemoteAddr().(*net.TCPAddr); ok && l.take(accountOf(remote.AddrPort().Addr().Unmap()), 1) {
			return &boundedConn{Conn: c, release: func() { l.take(accountOf(remote.AddrPort().Addr().Unmap()), -1) }}, nil
		}
		c.Close()
	}
}

// take counts a connection of a host, or one less; false if there are too many.
func (l *boundedListener) take(host netip.Addr, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 && (l.total >= maxCalls || l.open[host] >= maxCallsPerHost) {
		return false
	}
	l.total += n
	if l.open[host] += n; l.open[host] == 0 {
		delete(l.open, host)
	}
	return true
}

// boundedConn gives its place back once.
type boundedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}
