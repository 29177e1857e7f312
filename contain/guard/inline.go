//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/contain/guard/tc"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
)

// inline is the part of a role whose limits are in the kernel: the programs judge
// and count each packet, and the guard reads and sets their tables.
type inline struct {
	programs *tc.Programs
	events   *tc.Events

	indices []int    // of the interfaces
	missing []string // interfaces, when last told

	scope    daw.Scope // as set
	allow    int
	counters tc.Counters
	lost     uint64    // events, when last told
	read     flow.Time // when the tables were last read
	second   flow.Time
}

// openInline loads the programs with the guard's state, or takes over what an earlier
// role left, and puts them at the interfaces.
func (r *Role) openInline(now flow.Time) (err error) {
	c := &r.c.Kernel
	k := &inline{}
	var resumed bool
	if k.programs, resumed, err = tc.Load(tc.Options{Pins: c.Pins, Stay: c.Stay}, r.guard.edge); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	r.inline, r.guard.inline = k, k
	if k.events, err = k.programs.Events(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	var all []tc.StationBinding
	for _, b := range r.c.Validation.Bindings {
		station, _ := parseStation(b.MAC) // validated
		all = append(all, tc.StationBinding{Prefix: b.Prefix, Station: station})
	}
	err = errors.Join(k.setClock(now), k.programs.SetBindings(all, len(all) > 0 && r.c.Validation.By == ""))
	if resumed {
		r.log.Info("the limits go on with the counters in the kernel", "pins", c.Pins)
	}
	if err := errors.Join(err, k.refresh(r.guard, now), r.updateInline(now)); err != nil {
		return err
	}
	indices, missing := c.findInterfaces()
	if len(missing) > 0 {
		return fmt.Errorf("kernel.interfaces: there is no %s", strings.Join(missing, ", "))
	}
	if err := k.programs.Attach(indices...); err != nil {
		return fmt.Errorf("kernel.interfaces: %w", err)
	}
	k.indices = indices
	return nil
}

// findInterfaces looks up the indices of the interfaces that there are.
func (c *KernelConfiguration) findInterfaces() (indices []int, missing []string) {
	for _, name := range c.Interfaces {
		if dev, err := net.InterfaceByName(name); err == nil {
			indices = append(indices, dev.Index)
		} else {
			missing = append(missing, name)
		}
	}
	return indices, missing
}

// followInterfaces attaches the programs to interfaces that were made again: those of
// the old ones went with them. If one is missing, the others go on.
func (r *Role) followInterfaces() {
	k := r.inline
	indices, missing := r.c.Kernel.findInterfaces()
	if !slices.Equal(indices, k.indices) {
		if err := k.programs.Attach(indices...); err != nil {
			r.log.Error("no limits act on an interface that is new; tried again each second", "err", err)
			return
		}
		k.indices = indices
		r.log.Info("the interfaces have changed; the limits act on those there are", "interfaces", r.c.Kernel.Interfaces, "missing", missing)
	}
	if len(missing) > 0 && !slices.Equal(missing, k.missing) {
		r.log.Warn("an interface is gone; no limits act there until it is back", "missing", missing)
	}
	k.missing = missing
	r.metrics.missing.Set(float64(len(missing)))
}

func (k *inline) setClock(now flow.Time) error {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return err
	}
	return k.programs.SetClock(now, time.Duration(t.Nano()))
}

// refresh brings what the kernel counted to the guard, for reports and snapshots.
func (k *inline) refresh(g *Guard, now flow.Time) error {
	if now == k.read {
		return nil
	}
	k.read = now
	if err := k.programs.Tick(); err != nil {
		return err
	}
	t, err := k.programs.ReadTables()
	if err != nil {
		return err
	}
	c, err := k.programs.Counters()
	if err != nil {
		return err
	}
	g.stats.Packets += c.Requests + c.Replies - k.counters.Requests - k.counters.Replies
	g.stats.Fragments += c.Fragments - k.counters.Fragments
	k.counters = c
	return g.edge.Import(t)
}

// reply counts a reply that another edge passed on, or a firewall reported.
func (k *inline) reply(kind tc.Reply, c *daw.Conn) daw.ReplyOutcome {
	o, err := k.programs.Reply(kind, c)
	if err != nil {
		return daw.Ignored
	}
	return o
}

func (k *inline) pause(until flow.Time) { _ = k.programs.Pause(until) } // tried again 50 times a second

// tickInline does the work of each turn that the packet tap does otherwise.
func (r *Role) tickInline(now flow.Time) error {
	k := r.inline
	err := k.events.Drain(func(e tc.Event) {
		if e.Reply != 0 {
			r.guard.passOn(edgeReply{e.Reply, e.Conn})
		} else {
			r.guard.noteDrop(now, &e.Conn, e.Verdict)
		}
	})
	if err != nil {
		return err
	}
	if isDue(&k.second, now, time.Second) {
		r.followInterfaces()
		if err := errors.Join(k.setClock(now), k.programs.Tick()); err != nil {
			return err
		}
	}
	if now >= r.guard.next { // it looks for persistent scanners
		return k.refresh(r.guard, now)
	}
	return nil
}

// updateInline applies what has changed to the kernel.
func (r *Role) updateInline(now flow.Time) error {
	k, g := r.inline, r.guard
	plan := g.Plan(now)
	var err error
	if scope := g.exemptedScope(); len(g.allow) != k.allow || !reflect.DeepEqual(scope, k.scope) {
		err = k.programs.SetScope(scope, g.allow)
		k.scope, k.allow = scope, len(g.allow)
	}
	err = errors.Join(err, k.programs.SetBehaviour(tc.Behaviour{Acting: plan.Acting, ListAll: g.slow, Share: g.c.Edges.count() > 1}))
	if plan.Changed && err == nil {
		r.applied, err = r.applyBlocks(now, plan.Decisions)
	}
	return err
}

// applyBlocks puts decisions into effect, and reads back whether they are.
func (r *Role) applyBlocks(now flow.Time, decisions []dossier.Decision) ([]dossier.Receipt, error) {
	var all []tc.BlockedPrefix
	var receipts []dossier.Receipt
	for _, d := range decisions {
		if d.Target.Bits() > 0 {
			all = append(all, tc.BlockedPrefix{Prefix: d.Target, Until: d.Until})
		}
	}
	if err := r.inline.programs.SetBlocks(r.guard.edge, all); err != nil {
		return nil, err
	}
	for _, d := range decisions {
		receipt := dossier.Receipt{Version: dossier.ReceiptVersion, Decision: d.ID, Point: "eBPF on " + r.c.Name, Time: now}
		if receipt.Applied = r.inline.programs.HasBlock(d.Target); receipt.Applied {
			receipt.Proof = fmt.Sprintf("the kernel drops new connections from %s for another %s", d.Target, time.Duration(d.Until-now).Round(time.Second))
		} else {
			receipt.Problem = "the kernel does not list " + d.Target.String()
		}
		receipts = append(receipts, receipt)
	}
	return receipts, nil
}

// runInline is what run is where the limits are in the kernel.
func (r *Role) runInline(ctx context.Context) error {
	turn := time.NewTicker(pause)
	defer turn.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
		now := currentTime()
		if err := errors.Join(r.tickInline(now), r.tick(ctx, now)); err != nil {
			return err
		}
	}
}

// close ends this process's part. With undo the programs leave their interfaces, and
// with forget their tables go too.
func (k *inline) close(undo, forget bool, pins string) error {
	var err error
	if k.events != nil {
		err = k.events.Close()
	}
	if undo {
		err = errors.Join(err, k.programs.Detach())
	}
	if undo && forget && pins != "" {
		err = errors.Join(err, tc.Remove(pins))
	}
	return errors.Join(err, k.programs.Close())
}
