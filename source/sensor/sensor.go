//go:build linux

// Package sensor makes flows of the packets on a network interface, as
// source/packets makes them of a capture, and sends them to a node over the
// agents' channel.
//
// A flow is sent when it ends, and a connection that fails when it fails: five
// seconds after a SYN that nothing answers, or after the refusal. What the kernel
// dropped, and what could not be used, is sent along. If its configuration says
// so, it also has an Inspector look into payload, and sends what that saw.
package sensor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/packet"
	"dragnet/packet/live"
	"dragnet/source/packets"
	"dragnet/wire/channel"
)

// Sender is where batches go. The agents' channel is one.
type Sender interface {
	// Send takes items over: when it returns without an error they are durable.
	Send(items ...channel.Item) error
}

// Inspector looks into the payload of packets; signature/inspect has one. Calls
// come one at a time.
type Inspector interface {
	// Packet takes a packet captured at ts, and Advance moves time on when none
	// comes.
	Packet(ts flow.Time, p *packet.Packet)
	Advance(ts flow.Time)
	// Flush ends everything that is under way.
	Flush()
	// Take returns what was seen since the last call.
	Take() dossier.Inspection
}

// What a sensor whose configuration has payload matched sends besides flows: a
// dossier.Inspection as JSON. SignaturesFormat is that of the document that it is
// sent by its node: a dossier.SignatureSet as JSON.
const (
	InspectionKind   = "sensor.inspection"
	InspectionFormat = 1
	SignaturesFormat = 1
)

// Dependencies of a sensor.
type Dependencies struct {
	Out Sender
	// Inspector makes the Inspector of a worker; it may be nil unless payload is
	// matched.
	Inspector func() Inspector
	Log       *slog.Logger
	Admin     *admin.Server // may be nil
}

// Sensor watches one interface. Its methods are safe for concurrent use.
type Sensor struct {
	config Configuration
	deps   Dependencies
	log    *slog.Logger
	group  *run.Group

	workers []*worker
	// unsent are counts of batches that could not be handed on; used by one
	// goroutine, as is quiet, which counts turns without a batch.
	unsent Counts
	quiet  int
	// unsentSeen and quietSeen are the same for inspections.
	unsentSeen dossier.Inspection
	quietSeen  int

	metrics metrics
}

// New makes a sensor; Start starts it.
func New(c Configuration, d Dependencies) (*Sensor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Payload.Match {
		c.Live.Snap = 1 << 16 // whole packets
	} else {
		d.Inspector = nil
	}
	return &Sensor{config: c, deps: d, log: d.Log, group: run.NewGroup(), metrics: newMetrics(d.Admin)}, nil
}

// Start watches the interface, in the calling thread's network namespace, until
// Stop. It needs CAP_NET_RAW.
func (s *Sensor) Start(context.Context) error {
	readers, err := live.OpenGroup(s.config.Live, s.config.Workers)
	if err != nil {
		return err
	}
	for _, r := range readers {
		w := newWorker(s.config, r)
		if s.deps.Inspector != nil {
			w.inspector = s.deps.Inspector()
		}
		s.workers = append(s.workers, w)
		s.group.Go(w.run)
	}
	s.group.Go(s.send)
	s.log.Info("sensor started", "interface", s.config.Live.Interface, "workers", s.config.Workers, "payload", s.config.Payload.Match)
	return nil
}

// Failed receives the error that ended the sensor, such as that its interface is
// gone.
func (s *Sensor) Failed() <-chan error { return s.group.Failed() }

// Stop reports the flows that are held, as they are, and hands them on.
func (s *Sensor) Stop(ctx context.Context) error {
	err := s.group.Stop(ctx)
	for _, w := range s.workers {
		w.flush()
	}
	err = errors.Join(err, s.sendOnce(), s.sendInspection())
	for _, w := range s.workers {
		err = errors.Join(err, w.reader.Close())
	}
	s.workers = nil
	return err
}

func (s *Sensor) send(ctx context.Context) error {
	tick := time.NewTicker(s.config.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.sendOnce(); err != nil {
				s.log.Error("flows lost: spool for the node failed", "err", err, "lost", s.unsent.Lost)
			}
			if err := s.sendInspection(); err != nil {
				s.log.Error("spool sightings for the node failed; trying again", "err", err)
			}
		}
	}
}

// batchFlows bounds the flows of one item, which with the longest of them stay
// within what the channel takes.
const batchFlows = channel.MaxBody/maxFlow - 1

// heartbeat is how many turns may pass without anything to send.
const heartbeat = 60

// sendOnce hands on what the workers have.
func (s *Sensor) sendOnce() error {
	counts := s.unsent
	var flows []flow.Flow
	for _, w := range s.workers {
		part, n, err := w.take()
		if err != nil {
			return err
		}
		flows = append(flows, part...)
		counts.Add(n)
		s.metrics.add(n)
	}
	if s.quiet++; len(flows) == 0 && counts.Dropped+counts.Lost == 0 && s.quiet < heartbeat {
		s.unsent = counts
		return nil
	}
	s.quiet = 0
	var items []channel.Item
	ended := 0
	for first := true; first || len(flows) > 0; first = false {
		n := min(len(flows), batchFlows)
		b := Batch{Flows: flows[:n]}
		if first {
			b.Counts = counts
		}
		items = append(items, channel.Item{Kind: BatchKind, Format: BatchFormat, Body: b.Encode()})
		flows = flows[n:]
		counts.Lost += uint64(n) // if they cannot be kept
		ended += n
	}
	if err := s.deps.Out.Send(items...); err != nil {
		s.unsent = counts
		s.metrics.lost.Add(float64(ended))
		return err
	}
	s.metrics.flows.Add(float64(ended))
	s.unsent = Counts{}
	return nil
}

// sendInspection hands on what inspectors saw: at once if a signature matches,
// and now and then what they looked at.
func (s *Sensor) sendInspection() error {
	if s.deps.Inspector == nil {
		return nil
	}
	for _, w := range s.workers {
		seen := w.takeSeen()
		s.unsentSeen.Join(&seen)
	}
	if s.quietSeen++; len(s.unsentSeen.Sightings) == 0 && s.quietSeen < heartbeat {
		return nil
	}
	body, err := s.unsentSeen.Encode()
	if err == nil {
		err = s.deps.Out.Send(channel.Item{Kind: InspectionKind, Format: InspectionFormat, Body: body})
	}
	if err == nil {
		s.unsentSeen, s.quietSeen = dossier.Inspection{}, 0
	}
	return err
}

// worker assembles the packets of one ring.
type worker struct {
	reader    *live.Reader
	assembler *packets.Assembler
	packet    packet.Packet
	most      int

	mu        sync.Mutex // guards all below
	inspector Inspector  // nil if payload is not inspected
	flows     []flow.Flow
	count     Counts
	early     uint64     // of assembler, as last seen
	stats     live.Stats // of reader, as last seen
}

func newWorker(c Configuration, r *live.Reader) *worker {
	w := &worker{reader: r, most: c.MaxFlows}
	rules := packets.DefaultConfiguration()
	rules.MaxFlows, rules.IgnoreChecksums, rules.HeadersOnly = c.MaxFlows, c.IgnoreChecksums, true
	w.assembler = packets.New(rules, w.add)
	return w
}

// add takes a flow that ended; w.mu is held.
func (w *worker) add(f *flow.Flow) {
	if len(w.flows) >= w.most {
		w.count.Lost++
		return
	}
	one := *f
	one.Sampling = 1
	w.flows = append(w.flows, one)
}

const (
	// wait is how long to wait for a packet before time is moved on without.
	wait = 100 * time.Millisecond
	// behind is how much later than its time a packet may come from the ring.
	behind = flow.Time(time.Second)
	// burst is how many packets are read before others may have the lock.
	burst = 256
)

func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		rec, err := w.reader.Next(wait)
		w.mu.Lock()
		for n := 0; err == nil; n++ {
			err = w.packet.Decode(rec.Link, rec.Data, rec.Wire)
			if err == nil {
				if w.inspector != nil {
					w.inspector.Packet(rec.Time, &w.packet)
				}
				err = w.assembler.Packet(rec.Time, &w.packet)
			}
			if err != nil && !errors.Is(err, packet.ErrNotIP) && !errors.Is(err, packets.ErrPiece) {
				w.count.Skipped++
			}
			if err = nil; n == burst {
				break
			}
			rec, err = w.reader.Next(0)
		}
		if errors.Is(err, live.ErrIdle) {
			now := flow.FromTime(time.Now()) - behind
			w.assembler.Advance(now)
			if w.inspector != nil {
				w.inspector.Advance(now)
			}
			err = nil
		}
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// flush ends all flows; the worker must not run any more.
func (w *worker) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.assembler.Flush()
	if w.inspector != nil {
		w.inspector.Flush()
	}
}

func (w *worker) takeSeen() dossier.Inspection {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inspector.Take()
}

// take returns what ended since the last call.
func (w *worker) take() ([]flow.Flow, Counts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stats, err := w.reader.Stats()
	if err != nil {
		return nil, Counts{}, err
	}
	flows, n := w.flows, w.count
	n.Packets, n.Dropped, n.Early = stats.Read-w.stats.Read, stats.Dropped-w.stats.Dropped, w.assembler.Evicted-w.early
	w.flows, w.count, w.stats, w.early = nil, Counts{}, stats, w.assembler.Evicted
	return flows, n, nil
}
