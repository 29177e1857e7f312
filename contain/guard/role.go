//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/live"
)

// Role runs a guard beside a router: packets from an interface, blocks by
// nftables, orders from a station. It needs CAP_NET_RAW, and CAP_NET_ADMIN where
// it may block.
type Role struct {
	c       Configuration
	log     *slog.Logger
	station Station // nil: none

	guard   *Guard
	reader  *live.Reader
	router  *nft.Router // nil: blocks nobody
	journal *journal

	applied []dossier.Receipt
	ports   bool // the router knows them
	missed  uint64

	answers chan answer
	waiting bool
	lost    bool // the station, since the last exchange
	next    struct{ report, save, second, log flow.Time }

	stop context.CancelFunc
	done chan error
}

// answer is what came of one exchange.
type answer struct {
	bulletin daw.Bulletin
	orders   daw.Orders
	err      error
}

// NewRole prepares a role; Start begins. station may be nil.
func NewRole(c Configuration, station Station, log *slog.Logger) (*Role, error) {
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name: give one: %w", err)
		}
		c.Name = name
	}
	if err := errors.Join(c.Validate(), c.Live.Validate()); err != nil {
		return nil, err
	}
	if c.Limits.Seed == 0 {
		// Nobody must know which addresses share an entry of the tables.
		c.Limits.Seed = rand.Uint64()
	}
	return &Role{c: c, log: log, station: station, done: make(chan error, 1), answers: make(chan answer, 1)}, nil
}

// Start begins to watch and to act, in the calling thread's network namespace.
func (r *Role) Start(ctx context.Context) error {
	now := clock()
	if err := r.open(now); err != nil {
		return errors.Join(err, r.close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	go func() { r.done <- r.run(running) }()
	return nil
}

func clock() flow.Time { return flow.FromTime(time.Now()) }

func (r *Role) open(now flow.Time) (err error) {
	if r.c.State != "" {
		if err := os.MkdirAll(r.c.State, 0o700); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		if r.journal, err = openJournal(filepath.Join(r.c.State, eventsFile)); err != nil {
			return err
		}
		var problem error
		if r.guard, problem, err = Load(r.c, now, r.c.State, r.record); err != nil {
			return err
		}
		if problem != nil {
			r.log.Warn("state was not taken up", "problem", problem)
		}
	} else if r.guard, err = New(r.c, now, nil, r.record); err != nil {
		return err
	}
	if r.reader, err = live.Open(r.c.Live); err != nil {
		return err
	}
	if r.c.Standing.Enforce || r.station != nil {
		if r.router, err = nft.Open(r.c.Name); err != nil {
			return err
		}
		// What an earlier run held back is asked for again if need be.
		if err := r.router.Release(); err != nil {
			return err
		}
	}
	return nil
}

// record writes an event down before anybody learns of it otherwise.
func (r *Role) record(e Event) {
	attrs := []any{"decision", e.Decision, "verdict", e.Verdict}
	if e.Target.IsValid() {
		attrs = append(attrs, "target", e.Target)
	}
	if e.Limit != "" {
		attrs = append(attrs, "limit", e.Limit)
	}
	if e.Until != 0 {
		attrs = append(attrs, "until", e.Until)
	}
	if e.Why != "" {
		attrs = append(attrs, "why", e.Why)
	}
	r.log.Info(e.What, attrs...)
	if r.journal != nil {
		if err := r.journal.write(e); err != nil {
			r.log.Error("an event is not recorded", "problem", err)
		}
	}
}

// Failed gives the error that ended the role by itself.
func (r *Role) Failed() <-chan error { return r.done }

// Stop ends the role: the state is saved, and blocks are taken back if the
// configuration says so.
func (r *Role) Stop(ctx context.Context) error {
	r.stop()
	select {
	case err := <-r.done:
		return errors.Join(err, r.end())
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Role) end() error {
	var err error
	if r.c.State != "" {
		err = r.guard.Save(r.c.State)
	}
	if r.router != nil && r.c.UndoAtStop {
		err = errors.Join(err, r.router.Remove())
		r.log.Info("blocks are taken back")
	}
	return errors.Join(err, r.close())
}

func (r *Role) close() error {
	var err error
	if r.reader != nil {
		err = r.reader.Close()
	}
	if r.router != nil {
		err = errors.Join(err, r.router.Close())
	}
	if r.journal != nil {
		err = errors.Join(err, r.journal.close())
	}
	return err
}

// pause bounds how long a held source's next requests still slip through.
const pause = 20 * time.Millisecond

// run is the one goroutine that has the guard, the ring and the router.
func (r *Role) run(ctx context.Context) error {
	var p packet.Packet
	turn := flow.Time(0)
	for ctx.Err() == nil {
		rec, err := r.reader.Next(pause)
		now := rec.Time
		switch {
		case errors.Is(err, live.ErrIdle):
			now = clock()
		case err != nil:
			return err
		case p.Decode(rec.Link, rec.Data, rec.Wire) == nil:
			r.guard.Packet(now, &p)
		}
		if now >= turn || turn-now > flow.Time(time.Minute) { // the latter: the clock was set back
			turn = now + flow.Time(pause)
			if err := r.turn(ctx, now); err != nil {
				return err
			}
		}
	}
	return nil
}
