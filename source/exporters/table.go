// Package exporters keeps what is known of each exporter of flows, within a
// bound: anybody can forge the address of one.
//
// Exporters are of classes, such as the prefixes that a configuration names. Each
// class has a share of the room that others may only borrow, so that a forger
// within one prefix keeps no exporter of another out. Within a class, one that
// sent flows and was not silent keeps its place; one that has sent none gives
// way to any.
package exporters

import (
	"iter"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/internal/lru"
)

// silence is how long an exporter may say nothing before it may be forgotten
// for another of its class.
const silence = flow.Time(time.Hour)

// Table has a state S for each exporter. It is not safe for concurrent use.
type Table[S any] struct {
	most    int
	begin   func() *S
	classes []class[S]
	of      func(netip.Addr) int
	length  int
	// Forget, if set, is told which state gives way to that of another.
	Forget func(from netip.Addr, state *S)
	// Proven, if set, is whether an exporter has sent flows; else all have.
	Proven func(state *S) bool
}

// class are the exporters that share room. Only those in tried have not sent
// flows when they were last heard.
type class[S any] struct {
	share         int
	proven, tried *lru.Map[netip.Addr, *entry[S]]
}

type entry[S any] struct {
	state *S
	heard flow.Time
}

// NewTable returns a Table of at most most exporters, in one class; begin makes
// the state of a new one.
func NewTable[S any](most int, begin func() *S) *Table[S] {
	t := &Table[S]{most: most, begin: begin}
	t.Divide(nil, func(netip.Addr) int { return 0 })
	return t
}

// Divide makes a class of each prefix, in their order; of is the class of an
// address. It must come before the first exporter. Prefixes should not be more
// than there is room for.
func (t *Table[S]) Divide(prefixes []netip.Prefix, of func(netip.Addr) int) {
	t.of, t.classes = of, nil
	for _, p := range prefixes {
		// No class needs a larger share than it has addresses.
		share := max(1, t.most/len(prefixes))
		if bits := p.Addr().BitLen() - p.Bits(); bits < 30 {
			share = min(share, 1<<bits)
		}
		t.classes = append(t.classes, newClass[S](share))
	}
	if len(prefixes) == 0 {
		t.classes = []class[S]{newClass[S](t.most)}
	}
}

func newClass[S any](share int) class[S] {
	return class[S]{share: share, proven: lru.New[netip.Addr, *entry[S]](), tried: lru.New[netip.Addr, *entry[S]]()}
}

func (c *class[S]) len() int { return c.proven.Len() + c.tried.Len() }

// Find finds or makes the state of an exporter that sends something at now. It
// returns nil when there is no room for one more.
func (t *Table[S]) Find(now flow.Time, from netip.Addr) *S {
	c := &t.classes[t.of(from)]
	if e, ok := c.proven.Use(from); ok {
		e.heard = now
		return e.state
	}
	if e, ok := c.tried.Use(from); ok {
		e.heard = now
		if t.isProven(e.state) {
			c.tried.Delete(from)
			c.proven.Put(from, e)
		}
		return e.state
	}
	if t.length >= t.most && !t.makeRoom(now, c) {
		return nil
	}
	e := &entry[S]{t.begin(), now}
	if t.length++; t.Proven == nil {
		c.proven.Put(from, e)
	} else {
		c.tried.Put(from, e)
	}
	return e.state
}

func (t *Table[S]) isProven(state *S) bool { return t.Proven == nil || t.Proven(state) }

// makeRoom forgets an exporter for one of class c, if one must give way.
func (t *Table[S]) makeRoom(now flow.Time, c *class[S]) bool {
	if c.len() < c.share { // others have borrowed
		var most *class[S]
		for i := range t.classes {
			if o := &t.classes[i]; o.len() > o.share && (most == nil || o.len()-o.share > most.len()-most.share) {
				most = o
			}
		}
		return most != nil && (t.forgetTried(most) || t.forgetSilent(most, flow.MaxTime))
	}
	if t.forgetTried(c) || t.forgetSilent(c, now) {
		return true
	}
	for i := range t.classes {
		if o := &t.classes[i]; o.len() > o.share && t.forgetSilent(o, now) {
			return true
		}
	}
	return false
}

// forgetTried forgets the exporter that sent no flows, silent longest.
func (t *Table[S]) forgetTried(c *class[S]) bool {
	for {
		from, e, ok := c.tried.Oldest()
		if !ok {
			return false
		}
		c.tried.Delete(from)
		if t.isProven(e.state) { // since it was last heard
			c.proven.Put(from, e)
			continue
		}
		t.forget(from, e)
		return true
	}
}

// forgetSilent forgets the exporter silent longest, if that is long enough.
func (t *Table[S]) forgetSilent(c *class[S], now flow.Time) bool {
	from, e, ok := c.proven.Oldest()
	if !ok || now != flow.MaxTime && now-e.heard <= silence {
		return false
	}
	c.proven.Delete(from)
	t.forget(from, e)
	return true
}

func (t *Table[S]) forget(from netip.Addr, e *entry[S]) {
	if t.length--; t.Forget != nil {
		t.Forget(from, e.state)
	}
}

// Len is the number of exporters.
func (t *Table[S]) Len() int { return t.length }

// All yields the exporters; within those of a class that have sent flows, that
// silent longest first.
func (t *Table[S]) All() iter.Seq2[netip.Addr, *S] {
	return func(yield func(netip.Addr, *S) bool) {
		for i := range t.classes {
			for _, m := range []*lru.Map[netip.Addr, *entry[S]]{t.classes[i].proven, t.classes[i].tried} {
				for from, e := range m.All() {
					if !yield(from, e.state) {
						return
					}
				}
			}
		}
	}
}
