//go:build linux

package daemon

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"dragnet/trace/protocol"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// Statistics count since the start.
type Statistics struct {
	Queries, Tokens, Names, Errors, OverBudget, Loops, Refused, Walks, Recursions, Lost atomic.Uint64
}

// Daemon is the role ident.
type Daemon struct {
	config Configuration
	log    *slog.Logger
	Stats  Statistics

	key    ed25519.PrivateKey
	store  *token.Store
	finder *walk.Finder

	budget, saveBudget *budgets
	loops              *loops
	lookups            chan struct{} // one slot for each walk
	recursions         chan struct{} // one slot for each question to a host before

	cancel  context.CancelFunc
	quit    chan struct{} // ends maintenance
	running sync.WaitGroup

	mu        sync.Mutex // guards below
	listeners []net.Listener
	conns     map[net.Conn]netip.Addr
	perAsker  map[netip.Addr]int
	stopping  bool
}

// New prepares a daemon; it does nothing until Start.
func New(config Configuration, log *slog.Logger) *Daemon {
	return &Daemon{
		config: config, log: log,
		budget: newBudgets(config.Budget), saveBudget: newBudgets(config.SaveBudget), loops: newLoops(config.Recursion.Loop),
		lookups: make(chan struct{}, config.Lookups), recursions: make(chan struct{}, config.Recursion.Parallel),
		quit: make(chan struct{}), conns: map[net.Conn]netip.Addr{}, perAsker: map[netip.Addr]int{},
	}
}

// KeyFile is where a state folder keeps the host's key.
func KeyFile(state string) string { return filepath.Join(state, "host.key") }

// RecordsDir is where a state folder keeps the records.
func RecordsDir(state string) string { return filepath.Join(state, "records") }

// Start opens store and kernel and serves the listeners, which it closes in
// Stop. It returns once questions are answered.
func (d *Daemon) Start(ctx context.Context, listeners []net.Listener) error {
	var err error
	if d.key, err = token.LoadKey(KeyFile(d.config.State)); err != nil {
		return err
	}
	if d.store, err = token.Open(RecordsDir(d.config.State), d.key, d.config.Store); err != nil {
		return err
	}
	if d.finder, err = walk.New(d.config.Walk); err != nil {
		return errors.Join(err, d.store.Close())
	}
	if limits := d.finder.Limits(); limits != nil {
		d.log.Warn("look-ups are limited", "why", limits)
	}
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, l := range listeners {
		d.listeners = append(d.listeners, l)
		waiting := new(atomic.Int32)
		waiting.Store(1)
		d.running.Go(func() { d.accept(ctx, l, waiting) })
	}
	if d.config.Redeem.Listen != "" {
		if err := d.serveRedeem(); err != nil {
			return errors.Join(err, d.Stop(ctx))
		}
	}
	d.running.Go(d.maintain)
	return nil
}

// Stop refuses new questions, lets those being answered finish until ctx ends,
// and closes the store.
func (d *Daemon) Stop(ctx context.Context) error {
	d.mu.Lock()
	d.stopping = true
	for _, l := range d.listeners {
		l.Close()
	}
	for c := range d.conns {
		c.SetReadDeadline(time.Unix(1, 0)) // ends waiting, not answering
	}
	d.mu.Unlock()
	close(d.quit)
	done := make(chan struct{})
	go func() { d.running.Wait(); close(done) }()
	select {
	case <-done:
		d.cancel()
	case <-ctx.Done():
		d.cancel()
		<-done // what waits for other hosts gives up at once
	}
	return errors.Join(d.store.Close(), d.finder.Close())
}

// maintain signs records at least once a second and removes expired ones.
func (d *Daemon) maintain() {
	sign, expire := time.NewTicker(time.Second), time.NewTicker(time.Hour)
	defer sign.Stop()
	defer expire.Stop()
	for {
		var err error
		select {
		case <-d.quit:
			return
		case <-sign.C:
			err = d.store.Sync()
		case <-expire.C:
			err = d.store.Expire()
		}
		if err != nil {
			d.log.Error("records are not safe", "error", err)
		}
	}
}

// accept serves what it accepts itself and, before it does, sees to it that
// another goroutine waits in its place. So a question is answered by a goroutine
// that runs already and has a stack of the size it needs, and connections that
// sit idle keep nobody else from being accepted.
func (d *Daemon) accept(ctx context.Context, l net.Listener, waiting *atomic.Int32) {
	for {
		c, err := l.Accept()
		if err != nil {
			if d.isStopping() {
				return
			}
			d.log.Error("accept", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		asker, ok := d.admit(c)
		if !ok {
			d.Stats.Refused.Add(1)
			c.Close()
			continue
		}
		if waiting.Add(-1) < 1 {
			waiting.Add(1)
			d.running.Go(func() { d.accept(ctx, l, waiting) })
		}
		d.serve(ctx, c, asker)
		d.dismiss(c, asker)
		if waiting.Add(1) > maxWaiting {
			waiting.Add(-1)
			return
		}
	}
}

// maxWaiting is how many goroutines wait for connections at most.
const maxWaiting = 4

// admit counts a connection, and refuses it where there are too many: a closed
// connection tells a client at once, silence would stall it.
func (d *Daemon) admit(c net.Conn) (netip.Addr, bool) {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	asker := remote.AddrPort().Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping || len(d.conns) >= d.config.Connections || d.perAsker[account(asker)] >= d.config.PerAsker {
		return asker, false
	}
	d.conns[c] = asker
	d.perAsker[account(asker)]++
	return asker, true
}

func (d *Daemon) dismiss(c net.Conn, asker netip.Addr) {
	c.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if d.perAsker[account(asker)]--; d.perAsker[account(asker)] == 0 {
		delete(d.perAsker, account(asker))
	}
}

// serve answers the questions of one connection until it ends.
func (d *Daemon) serve(ctx context.Context, c net.Conn, asker netip.Addr) {
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	r := protocol.NewReader(c)
	for {
		c.SetReadDeadline(time.Now().Add(d.config.Idle))
		if d.isStopping() {
			return
		}
		line, err := protocol.ReadLine(r)
		if errors.Is(err, protocol.ErrLineTooLong) {
			d.Stats.Errors.Add(1)
			io.WriteString(c, protocol.ErrorReply(protocol.Ports{}, protocol.UnknownError).String()+"\r\n")
			linger(c)
			return
		}
		if err != nil {
			return
		}
		reply, after := d.answer(ctx, asker, local, line)
		c.SetWriteDeadline(time.Now().Add(d.config.Deadline))
		_, err = io.WriteString(c, reply.String()+"\r\n")
		if after != nil {
			// Only now that the answer is out; even if nobody took it, the
			// request was made and its record is stored.
			d.running.Go(func() { after(ctx) })
		}
		if err != nil {
			return
		}
	}
}

func (d *Daemon) isStopping() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopping
}

// linger lets the peer read the last answer: closing while unread octets wait
// makes the kernel send a reset, which can destroy it.
func linger(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.CloseWrite()
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c, 64<<10)
}
