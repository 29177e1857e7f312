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

	"dragnet/internal/admin"
	"dragnet/internal/metric"
	"dragnet/internal/run"
	"dragnet/trace/protocol"
	"dragnet/trace/recorder"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// Statistics count since the start.
type Statistics struct {
	Queries, Tokens, Names, Errors, OverBudget, Loops, Refused, Walks, Recursions, Lost, Past atomic.Uint64
}

// Daemon is the role ident.
type Daemon struct {
	config Configuration
	// rules is config with the askers of the last reload.
	rules atomic.Pointer[Configuration]
	log   *slog.Logger
	Stats Statistics

	key    ed25519.PrivateKey
	store  *token.Store
	finder *walk.Finder
	past   *recorder.Recorder // nil if nothing is recorded
	owner  func(uid uint32) uint32

	budget, saveBudget *budgets
	loops              *recent[loopKey]
	asked              *recent[askedKey]
	lookups            chan struct{} // one slot for each walk
	recursions         chan struct{} // one slot for each question to a previous host
	hashing            chan struct{} // one slot: hashing keeps a processor busy

	group *run.Group
	quit  chan struct{} // ends maintenance

	mu        sync.Mutex // guards below
	listeners []net.Listener
	conns     map[net.Conn]netip.Addr
	perAsker  map[netip.Addr]int
	strangers int // connections of askers that are not configured
	stopping  bool
}

// Dependencies of a daemon.
type Dependencies struct {
	// Listeners are served, and closed in Stop.
	Listeners []net.Listener
	Log       *slog.Logger
	Admin     *admin.Server // may be nil
}

// New makes a daemon; Start starts it.
func New(config Configuration, deps Dependencies) *Daemon {
	d := &Daemon{
		config: config, log: deps.Log, listeners: deps.Listeners, group: run.NewGroup(),
		budget: newBudgets(config.Budget), saveBudget: newBudgets(config.SaveBudget), loops: newRecent[loopKey](config.Recursion.Loop), asked: newRecent[askedKey](config.Recursion.Loop),
		lookups: make(chan struct{}, config.Lookups), recursions: make(chan struct{}, config.Recursion.Parallel),
		hashing: make(chan struct{}, 1),
		quit:    make(chan struct{}), conns: map[net.Conn]netip.Addr{}, perAsker: map[netip.Addr]int{},
	}
	d.rules.Store(&config)
	d.Stats.register(deps.Admin)
	return d
}

// SetAskers replaces who may ask for what. Connections that are open are asked by
// the new rules from their next question on.
func (d *Daemon) SetAskers(askers []Asker) {
	next := d.config
	next.Askers = askers
	d.rules.Store(&next)
}

// register makes metrics of the statistics.
func (s *Statistics) register(a *admin.Server) {
	m := metric.Under(a.Metrics(), "dragnet_ident_")
	for _, c := range []struct {
		name, help string
		n          *atomic.Uint64
	}{
		{"queries_total", "Questions received.", &s.Queries},
		{"tokens_total", "Questions answered with a token.", &s.Tokens},
		{"names_total", "Questions answered with the name of a user.", &s.Names},
		{"errors_total", "Questions answered with an error.", &s.Errors},
		{"over_budget_total", "Questions beyond the budget of their asker.", &s.OverBudget},
		{"loops_total", "Requests that were seen before.", &s.Loops},
		{"refused_total", "Connections beyond the bounds.", &s.Refused},
		{"walks_total", "Requests for which process state was saved.", &s.Walks},
		{"past_total", "Questions about a time, looked up in the flight recorder.", &s.Past},
		{"recursions_total", "Questions to previous hosts.", &s.Recursions},
		{"lost_total", "Records that could not be stored.", &s.Lost},
	} {
		m.CounterFunc(c.name, c.help, c.n.Load)
	}
}

// KeyFile is the path of the host's key in a state folder.
func KeyFile(state string) string { return filepath.Join(state, "host.key") }

// RecordsDir is the path of the records in a state folder.
func RecordsDir(state string) string { return filepath.Join(state, "records") }

// Start opens store and kernel. It returns once it accepts questions.
func (d *Daemon) Start(ctx context.Context) error {
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
		d.log.Warn("look-ups are limited", "err", limits)
	}
	d.owner = walk.ReadAccounts("/etc/subuid")
	d.startRecorder()
	for _, l := range d.listeners {
		waiting := new(atomic.Int32)
		waiting.Store(1)
		d.group.GoWithoutError(func(ctx context.Context) { d.acceptConns(ctx, l, waiting) })
		d.log.Info("ident daemon started", "address", l.Addr())
	}
	if d.config.Redeem.Listen != "" {
		if err := d.serveRedeem(); err != nil {
			return errors.Join(err, d.Stop(ctx))
		}
	}
	d.group.GoWithoutError(d.maintain)
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
	err := d.group.Drain(ctx) // afterwards questions to other hosts are given up
	if d.past != nil {
		err = errors.Join(err, d.past.Close())
	}
	return errors.Join(err, d.store.Close(), d.finder.Close())
}

// maintain signs records at least once a second and removes expired ones.
func (d *Daemon) maintain(context.Context) {
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
			d.log.Info("anchor of the records: keep it on another machine", "anchor", d.store.Anchor().String())
		}
		if err != nil {
			d.log.Error("sync records failed", "err", err)
		}
	}
}

// acceptConns accepts a connection and serves it in the same goroutine, after
// making sure that another goroutine waits to accept. So a question is answered
// by a goroutine that already runs and has a stack of the size it needs, and
// idle connections do not keep others from being accepted.
func (d *Daemon) acceptConns(ctx context.Context, l net.Listener, waiting *atomic.Int32) {
	for {
		c, err := l.Accept()
		if err != nil {
			if d.isStopping() {
				return
			}
			d.log.Error("accept failed", "err", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		asker, listed, ok := d.admitConn(c)
		if !ok {
			d.Stats.Refused.Add(1)
			c.Close()
			continue
		}
		if waiting.Add(-1) < 1 {
			waiting.Add(1)
			d.group.GoWithoutError(func(ctx context.Context) { d.acceptConns(ctx, l, waiting) })
		}
		d.serveConn(ctx, c, asker)
		d.releaseConn(c, asker, listed)
		if waiting.Add(1) > maxWaiting {
			waiting.Add(-1)
			return
		}
	}
}

// maxWaiting bounds the goroutines that wait for connections.
const maxWaiting = 4

// admitConn counts a connection, and refuses it if there are too many: a client
// notices a closed connection at once, silence would stall it.
func (d *Daemon) admitConn(c net.Conn) (asker netip.Addr, listed, ok bool) {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false, false
	}
	asker = remote.AddrPort().Addr().Unmap()
	rules := d.rules.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	listed = rules.lists(asker)
	if d.stopping || len(d.conns) >= d.config.Connections || d.perAsker[accountOf(asker)] >= d.config.PerAsker ||
		!listed && d.strangers >= rules.forStrangers() {
		return asker, listed, false
	}
	d.conns[c] = asker
	if !listed {
		d.strangers++
	}
	d.perAsker[accountOf(asker)]++
	return asker, listed, true
}

func (d *Daemon) releaseConn(c net.Conn, asker netip.Addr, listed bool) {
	c.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if !listed {
		d.strangers--
	}
	if d.perAsker[accountOf(asker)]--; d.perAsker[accountOf(asker)] == 0 {
		delete(d.perAsker, accountOf(asker))
	}
}

// serveConn answers the questions of one connection until it ends.
func (d *Daemon) serveConn(ctx context.Context, c net.Conn, asker netip.Addr) {
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
			drainConn(c)
			return
		}
		if err != nil {
			return
		}
		reply, after := d.answerLine(ctx, asker, local, line)
		c.SetWriteDeadline(time.Now().Add(d.config.Deadline))
		_, err = io.WriteString(c, reply.String()+"\r\n")
		if after != nil {
			// Only now that the answer is sent; even if the peer did not read
			// it, the request was made and its record is stored.
			d.group.GoWithoutError(after)
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

// drainConn lets the peer read the last answer: closing with unread octets in
// the buffer makes the kernel send a reset, which can destroy it.
func drainConn(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.CloseWrite()
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c, 64<<10)
}
