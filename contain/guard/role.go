//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/run"
	"dragnet/packet"
	"dragnet/packet/live"
)

// Role runs a guard beside a router: packets from an interface, blocks by
// nftables, policy from a station. It needs CAP_NET_RAW, and CAP_NET_ADMIN
// where it may block.
type Role struct {
	c       Configuration
	log     *slog.Logger
	station *Channel // nil: none
	metrics metrics

	guard   *Guard
	reader  *live.Reader
	router  *nft.Router // nil: blocks nothing
	inline  *inline     // instead of both; or nil
	journal *journal
	link    *edgeLink // nil: this is the only edge
	missing int       // peers not heard, when last told; -1 before

	applied []dossier.Receipt
	ports   bool // set at the router
	ingress bool // set at the router
	missed  uint64

	allowed chan setAllow // from SetAllow
	answers chan answer
	waiting bool
	lost    bool // the station could not be reached at the last exchange
	next    struct{ report, save, second, log flow.Time }

	group *run.Group
}

// answer is the result of one exchange.
type answer struct {
	report daw.AgentReport
	policy daw.AgentPolicy
	err    error
}

// setAllow is an allow list for the guard, and where the error goes.
type setAllow struct {
	list []netip.Prefix
	done chan error
}

// Dependencies of a role.
type Dependencies struct {
	// Station gets reports and gives the policy; nil for none.
	Station *Channel
	Log     *slog.Logger
	Admin   *admin.Server // may be nil
}

// NewRole prepares a role; call Start to run it.
func NewRole(c Configuration, d Dependencies) (*Role, error) {
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name: not set, and the host name is not known: %w", err)
		}
		c.Name = name
	}
	var p conf.Problems
	if !c.Kernel.isUsed() {
		p.Section("live", c.Live.Validate()) // which captures do not need
	}
	if err := errors.Join(c.Validate(), p.Join()); err != nil {
		return nil, err
	}
	if c.Limits.Seed == 0 {
		// The seed is secret, so that an attacker does not know which addresses
		// share an entry of the tables.
		c.Limits.Seed = rand.Uint64()
	}
	r := &Role{c: c, log: d.Log, station: d.Station, group: run.NewGroup(), allowed: make(chan setAllow), answers: make(chan answer, 1)}
	r.metrics.register(d.Admin)
	return r, nil
}

// Start starts watching and enforcing, in the calling thread's network
// namespace.
func (r *Role) Start(context.Context) error {
	now := currentTime()
	if err := r.openParts(now); err != nil {
		return errors.Join(err, r.closeParts())
	}
	r.group.Go(r.run)
	if r.link != nil {
		r.group.Go(r.link.run)
	}
	r.logValidation()
	r.log.Info("guard started", "interface", r.c.Live.Interface, "kernel", r.c.Kernel.Interfaces, "enforce", r.c.Standing.Enforce, "station", r.station != nil)
	return nil
}

// logValidation says what the guard's accusations rest on.
func (r *Role) logValidation() {
	switch v := &r.c.Validation; {
	case !v.isValidated():
		r.log.Warn("no source is held back or blocked by this guard: it is not known who sends in whose name", "do", "set 'validation'")
	case v.By == "":
		r.log.Info("sources are bound to stations; others are neither counted nor limited", "bindings", len(v.Bindings))
	default:
		r.log.Info("source addresses are validated before they come here, says the configuration", "by", v.By, "bindings", len(v.Bindings))
	}
	if r.c.Live.Promiscuous {
		r.log.Warn("on a mirror port the direction of packets is not known: hosts can forge replies to themselves and to others")
	}
}

func currentTime() flow.Time { return flow.FromTime(time.Now()) }

func (r *Role) openParts(now flow.Time) (err error) {
	if r.c.State != "" {
		if err := os.MkdirAll(r.c.State, 0o700); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		if r.journal, err = openJournal(filepath.Join(r.c.State, eventsFile)); err != nil {
			return err
		}
		var problem error
		if r.guard, problem, err = Load(r.c, now, r.c.State, r.recordEvent); err != nil {
			return err
		}
		if problem != nil {
			r.log.Warn("saved state ignored", "err", problem)
		}
	} else if r.guard, err = New(r.c, now, nil, r.recordEvent); err != nil {
		return err
	}
	if r.c.Edges.count() > 1 {
		r.missing = -1
		if r.link, err = openLink(r.c.Edges); err != nil {
			return err
		}
	}
	if r.c.Kernel.isUsed() {
		return r.openInline(now)
	}
	if r.reader, err = live.Open(r.c.Live); err != nil {
		return err
	}
	if len(r.c.Validation.Bindings) > 0 && r.reader.LinkType() != packet.LinkEthernet {
		return fmt.Errorf("validation.bindings: %s is not an Ethernet interface, so that stations are not known there", r.c.Live.Interface)
	}
	if r.c.Standing.Enforce || r.station != nil {
		if r.router, err = nft.Open(r.c.Name); err != nil {
			return err
		}
		// Holds of an earlier run are made again if needed.
		if err := errors.Join(r.router.Release(), r.router.ClearServices(), r.router.SetIngress(nil), r.updateRouter(now)); err != nil {
			return err
		}
	}
	return nil
}

// recordEvent writes an event to the journal before it is logged.
func (r *Role) recordEvent(e Action) {
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
			r.log.Error("record event failed", "err", err)
		}
	}
}

// Failed returns a channel with the error that ended the role, if one did.
func (r *Role) Failed() <-chan error { return r.group.Failed() }

// SetAllow replaces the allow list of the configuration while the role runs, and
// releases what is on it.
func (r *Role) SetAllow(ctx context.Context, list []netip.Prefix) error {
	a := setAllow{list, make(chan error, 1)}
	select {
	case r.allowed <- a:
		return <-a.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop ends the role: it saves the state, and removes blocks if the
// configuration says so.
func (r *Role) Stop(ctx context.Context) error {
	if err := r.group.Stop(ctx); err != nil && ctx.Err() != nil {
		return err // it still runs
	}
	return r.finish()
}

func (r *Role) finish() error {
	err := r.save(currentTime())
	if r.inline != nil {
		r.log.Info("limits in the kernel", "end", r.c.UndoAtStop, "stay", r.c.Kernel.Stay && !r.c.UndoAtStop)
		err = errors.Join(err, r.inline.close(r.c.UndoAtStop, r.c.State != "", r.c.Kernel.Pins))
		r.inline = nil
	}
	if r.router != nil && r.c.UndoAtStop {
		err = errors.Join(err, r.router.Remove())
		r.log.Info("removing all blocks")
	}
	return errors.Join(err, r.closeParts())
}

// save writes the state, if it is kept.
func (r *Role) save(now flow.Time) error {
	if r.c.State == "" {
		return nil
	}
	if r.inline != nil {
		if err := r.inline.refresh(r.guard, now); err != nil {
			return err
		}
	}
	return r.guard.Save(r.c.State)
}

func (r *Role) closeParts() error {
	var err error
	if r.inline != nil {
		err = r.inline.close(false, false, "")
	}
	if r.reader != nil {
		err = errors.Join(err, r.reader.Close())
	}
	if r.router != nil {
		err = errors.Join(err, r.router.Close())
	}
	if r.link != nil {
		err = errors.Join(err, r.link.close())
	}
	if r.journal != nil {
		err = errors.Join(err, r.journal.close())
	}
	return err
}

// pause bounds how long a held source's next requests still pass.
const pause = 20 * time.Millisecond

// run is the only goroutine that uses the guard, the ring and the router.
func (r *Role) run(ctx context.Context) error {
	if r.inline != nil {
		return r.runInline(ctx)
	}
	var p packet.Packet
	turn := flow.Time(0)
	for ctx.Err() == nil {
		rec, err := r.reader.Next(pause)
		now := rec.Time
		switch {
		case errors.Is(err, live.ErrIdle):
			now = currentTime()
		case err != nil:
			return err
		case p.Decode(rec.Link, rec.Data, rec.Wire) == nil:
			r.guard.Packet(now, &p, pathOf(&rec))
		}
		if now >= turn || turn-now > flow.Time(time.Minute) { // the latter if the clock was set back
			turn = now + flow.Time(pause)
			if err := r.tick(ctx, now); err != nil {
				return err
			}
		}
	}
	return nil
}
