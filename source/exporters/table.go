// Package exporters keeps what is known of each exporter of flows, within a
// bound: anybody can forge the address of one.
package exporters

import (
	"iter"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/internal/lru"
)

// silence is how long an exporter may say nothing before it may be forgotten
// for another.
const silence = flow.Time(time.Hour)

// Table has a state S for each exporter. It is not safe for concurrent use.
type Table[S any] struct {
	most   int
	begin  func() *S
	states *lru.Map[netip.Addr, *entry[S]]
	// Forget, if set, is told which state gives way to that of another.
	Forget func(from netip.Addr, state *S)
}

type entry[S any] struct {
	state *S
	heard flow.Time
}

// NewTable returns a Table of at most most exporters; begin makes the state of
// a new one.
func NewTable[S any](most int, begin func() *S) *Table[S] {
	return &Table[S]{most: most, begin: begin, states: lru.New[netip.Addr, *entry[S]]()}
}

// Find finds or makes the state of an exporter that sends something at now. It
// returns nil when the table is full of others that were not silent.
func (t *Table[S]) Find(now flow.Time, from netip.Addr) *S {
	if e, ok := t.states.Use(from); ok {
		e.heard = now
		return e.state
	}
	if t.states.Len() >= t.most {
		other, e, ok := t.states.Oldest()
		if !ok || now-e.heard <= silence {
			return nil
		}
		t.states.Delete(other)
		if t.Forget != nil {
			t.Forget(other, e.state)
		}
	}
	e := &entry[S]{t.begin(), now}
	t.states.Put(from, e)
	return e.state
}

// Len is the number of exporters.
func (t *Table[S]) Len() int { return t.states.Len() }

// All yields the exporters, that silent longest first.
func (t *Table[S]) All() iter.Seq2[netip.Addr, *S] {
	return func(yield func(netip.Addr, *S) bool) {
		for from, e := range t.states.All() {
			if !yield(from, e.state) {
				return
			}
		}
	}
}
