package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gaissmai/bart"

	"dragnet/flow"
	"dragnet/internal/run"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
)

// Collector makes flows of datagrams. Its methods are safe for concurrent use.
type Collector struct {
	config Configuration
	file   string
	log    *slog.Logger
	now    func() time.Time

	sockets []*socket
	group   *run.Group // the readers of the sockets
	full    chan struct{}

	mu      sync.Mutex // guards all below
	netflow *netflow.Decoder
	sflow   *sflow.Decoder
	join    *biflow.Joiner
	pending []flow.Flow
	spare   []flow.Flow // the room of pending when that was taken
	totals  Totals
	saved   string // what is in file
	stopped bool
	named   bart.Table[int] // exporters of the configuration, as indexes
	// gone are the counts of exporters that gave way to others, by index.
	gone []Counters
}

// Totals count what was received and what of it was lost before it was known
// whose it is.
type Totals struct {
	// Datagrams were received, Overflowed were dropped by the kernel because a
	// socket's buffer was full.
	Datagrams, Overflowed uint64
	// Foreign datagrams came from no exporter that is named; Unknown are of no
	// format that is known; Refused are of exporters beyond max_exporters.
	Foreign, Unknown, Refused uint64
	// Flows were made, Dropped of them for lack of room.
	Flows, Dropped uint64
	// Killed counts ends without Stop: it is not known what was received
	// and not stored then.
	Killed uint64
}

// Dependencies of a collector.
type Dependencies struct {
	// File keeps templates and counts across restarts; an empty name keeps them
	// nowhere.
	File string
	Log  *slog.Logger
}

// New prepares a collector; Start starts it.
func New(config Configuration, d Dependencies) (*Collector, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Collector{config: config, file: d.File, log: d.Log, group: run.NewGroup(), now: time.Now, full: make(chan struct{}, 1),
		netflow: netflow.New(config.NetFlow), sflow: sflow.New(config.SFlow)}
	c.join = biflow.New(config.Join, c.addFlow)
	c.nameCounts()
	return c, nil
}

// Start listens, unless no exporters are named.
func (c *Collector) Start(context.Context) error {
	if c.config.Off() {
		return nil
	}
	if err := c.restoreState(); err != nil {
		c.log.Warn("restore templates failed: exporters must send them again, and counts start at 0", "err", err)
	}
	if err := c.Save(); err != nil { // until Stop, an end counts as killed
		return err
	}
	for _, address := range c.config.Listen {
		s, err := openSocket(address, c.config.ReceiveBuffer)
		if err != nil {
			return errors.Join(fmt.Errorf("listen: %w", err), c.closeSockets())
		}
		c.sockets = append(c.sockets, s)
		if s.size < c.config.ReceiveBuffer {
			c.log.Warn("receive buffer is smaller than configured; raise net.core.rmem_max or grant CAP_NET_ADMIN",
				"address", address, "bytes", s.size, "want", c.config.ReceiveBuffer)
		}
	}
	for _, s := range c.sockets {
		c.group.GoWithoutError(func(context.Context) { c.readDatagrams(s) })
	}
	return nil
}

// Addresses are those listened on.
func (c *Collector) Addresses() (all []net.Addr) {
	for _, s := range c.sockets {
		all = append(all, s.conn.LocalAddr())
	}
	return all
}

func (c *Collector) closeSockets() (err error) {
	for _, s := range c.sockets {
		err = errors.Join(err, s.conn.Close())
	}
	return err
}

// Stop ends the listening, and makes flows of what is held; Take gives them.
func (c *Collector) Stop(ctx context.Context) error {
	err := errors.Join(c.closeSockets(), c.group.Stop(ctx)) // a closed socket ends its reader
	c.mu.Lock()
	c.join.Flush()
	c.stopped = true
	c.mu.Unlock()
	return errors.Join(err, c.Save())
}

// readDatagrams passes datagrams on until the socket is closed.
func (c *Collector) readDatagrams(s *socket) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.receiveDatagram(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.log.Error("receive exports failed", "address", s.conn.LocalAddr(), "err", err)
			time.Sleep(time.Second)
			continue
		}
		c.takeDatagram(flow.FromTime(c.now()), from, buf[:n], s)
	}
}

func (c *Collector) takeDatagram(now flow.Time, from netip.Addr, b []byte, s *socket) {
	from = from.Unmap().WithZone("")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals.Datagrams++
	c.totals.Overflowed += uint64(s.newOverflow())
	if !c.named.Contains(from) {
		c.totals.Foreign++
		return
	}
	emit := func(r *biflow.Record) { c.join.Add(now, r) }
	// The decoders count by exporter what is wrong.
	switch {
	case netflow.Is(b):
		_ = c.netflow.Decode(now, from, b, emit)
	case sflow.Is(b):
		_ = c.sflow.Decode(now, from, b, emit)
	default:
		c.totals.Unknown++
	}
}

// addFlow takes a flow of the joiner; c.mu is held.
func (c *Collector) addFlow(f *flow.Flow) {
	c.totals.Flows++
	if len(c.pending) >= c.config.MaxPending {
		c.totals.Dropped++
		return
	}
	if c.pending = append(c.pending, *f); len(c.pending) == (c.config.MaxPending+1)/2 {
		select {
		case c.full <- struct{}{}:
		default:
		}
	}
}

// Full gets a value when enough flows are pending that Take should be called.
func (c *Collector) Full() <-chan struct{} { return c.full }

// Take hands the flows that are over to fn, once. They are not kept if fn
// fails.
func (c *Collector) Take(fn func([]flow.Flow) error) error {
	c.mu.Lock()
	c.join.Advance(flow.FromTime(c.now()))
	batch := c.pending
	c.pending, c.spare = c.spare[:0], nil
	c.mu.Unlock()
	const most = 1 << 14
	var err error
	for rest := batch; err == nil && len(rest) > 0; {
		n := min(most, len(rest))
		err = fn(rest[:n])
		rest = rest[n:]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(batch) <= 1<<16 { // a burst need not keep its room
		c.spare = batch[:0]
	}
	return err
}

// Totals are the counts so far.
func (c *Collector) Totals() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.totals
	t.Refused = c.sumRefused()
	return t
}

// sumRefused counts the datagrams refused in earlier runs, and in this.
func (c *Collector) sumRefused() uint64 {
	return c.totals.Refused + c.netflow.Refused + c.sflow.Refused
}
