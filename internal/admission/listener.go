package admission

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// Listener bounds the connections of a server. When there are too many, in all or
// from one network, the oldest that never made a request of a known caller is
// closed: who opens connections and leaves them idle pushes out its own first. A known
// caller with too many has its oldest closed.
type Listener struct {
	net.Listener
	most, share int

	mu   sync.Mutex
	open []*conn // the oldest first
}

// Listen bounds a listener to a number of connections; strangers of one network (see
// Address) together, and each known caller, to an eighth of them.
func Listen(l net.Listener, most int) *Listener {
	return &Listener{Listener: l, most: most, share: max(most/8, 1)}
}

type conn struct {
	net.Conn
	l       *Listener
	network string
	known   atomic.Pointer[string] // the name of the caller
	once    sync.Once
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: accepted, l: l, network: networkOf(accepted.RemoteAddr().String())}
		if l.admit(c) {
			return c, nil
		}
		accepted.Close() // everybody here is known
	}
}

// admit makes room for a connection.
func (l *Listener) admit(c *conn) bool {
	l.mu.Lock()
	var evict *conn
	same := 0
	for _, o := range l.open {
		if o.network == c.network && o.known.Load() == nil {
			same++
		}
	}
	switch {
	case same >= l.share:
		evict = l.oldestStranger(func(o *conn) bool { return o.network == c.network })
	case len(l.open) >= l.most:
		evict = l.oldestStranger(func(*conn) bool { return true })
	default:
		l.open = append(l.open, c)
		l.mu.Unlock()
		return true
	}
	if evict != nil {
		l.open = append(l.open, c)
	}
	l.mu.Unlock()
	if evict == nil {
		return false
	}
	evict.Close()
	return true
}

func (l *Listener) oldestStranger(among func(*conn) bool) *conn {
	for _, o := range l.open {
		if o.known.Load() == nil && among(o) {
			return o
		}
	}
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		if i := slices.Index(c.l.open, c); i >= 0 {
			c.l.open = slices.Delete(c.l.open, i, i+1)
		}
	})
	return c.Conn.Close()
}

type connKey struct{}

// ConnContext is http.Server's: it lets a Gate, or MarkKnown, find the connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if o, ok := c.(*conn); ok {
		ctx = context.WithValue(ctx, connKey{}, o)
	}
	return ctx
}

// MarkKnown keeps a request's connection when others are closed for room, and closes
// the oldest of this caller's if it has more than its share.
func MarkKnown(ctx context.Context, name string) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return
	}
	if was := c.known.Load(); was != nil && *was == name {
		return
	}
	c.known.Store(&name)
	if over := c.l.oldestOver(name); over != nil {
		over.Close()
	}
}

// oldestOver returns the oldest connection of a known caller that has more than its share.
func (l *Listener) oldestOver(name string) (oldest *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, o := range l.open {
		if known := o.known.Load(); known != nil && *known == name {
			if n++; oldest == nil {
				oldest = o
			}
		}
	}
	if n <= l.share {
		return nil
	}
	return oldest
}
