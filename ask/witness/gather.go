package witness

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// hit names the flows of one host under one tuple.
type hit struct {
	tuple key.Tuple
	x     netip.Addr
}

// gatherer collects the flows whose keys were asked for.
type gatherer struct {
	q      *dossier.Question
	silent []netip.Prefix
	limit  int
	clues  []askedClue

	inWindow atomic.Uint64
	full     atomic.Bool

	mu      sync.Mutex // guards what follows and clues' found
	matched uint64     // flows that fit a clue
	events  int        // the same, once per clue
}

type askedClue struct {
	*dossier.AskedClue
	keyer *key.Keyer
	// counts says that the clue bounds counts, since which each host is judged by all
	// its flows together.
	counts bool
	one    key.K
	many   map[key.K]bool // nil if one key was asked
	found  map[hit][]dossier.FlowEvent
	// ends are the far ends of the flows in found, if the clue counts any, and since
	// is when a hit's counts were reached.
	ends  map[hit][]farEnd
	since map[hit]flow.Time
}

func newGatherer(q *dossier.Question, silent []netip.Prefix, limit int) (*gatherer, error) {
	g := &gatherer{q: q, silent: silent, limit: limit, clues: make([]askedClue, len(q.Clues))}
	for i := range q.Clues {
		asked := &q.Clues[i]
		keyer, err := key.NewKeyer(asked.Mask, asked.End, q.Hash, asked.Salt)
		if err != nil {
			return nil, err
		}
		c := askedClue{AskedClue: asked, keyer: keyer, one: asked.Keys[0].K, found: map[hit][]dossier.FlowEvent{}, counts: asked.Bounds.Count()}
		c.ends = map[hit][]farEnd{}
		if len(asked.Keys) > 1 {
			c.many = map[key.K]bool{}
			for _, k := range asked.Keys {
				c.many[k.K] = true
			}
		}
		g.clues[i] = c
	}
	return g, nil
}

func (c *askedClue) wants(k key.K) bool {
	if c.many == nil {
		return k == c.one
	}
	return c.many[k]
}

// match is a flow that fits a clue, waiting to be filed.
type match struct {
	clue  int
	hit   hit
	event dossier.FlowEvent
	end   farEnd // if the clue counts
}

// readLog gathers the question's flows from log: by look-ups if it offers them,
// else by hashing every flow.
func (g *gatherer) readLog(ctx context.Context, log flow.Log) (flow.Coverage, error) {
	if indexed, ok := log.(Indexed); ok {
		cov, ok, err := g.lookUpKeys(ctx, indexed)
		if ok || err != nil {
			return cov, err
		}
	}
	all := make([]int, len(g.clues))
	for i := range all {
		all[i] = i
	}
	columns := flow.Failures
	for i := range g.clues {
		columns |= g.clues[i].Bounds.Columns()
	}
	return log.Scan(ctx, g.q.Window, columns, func(batch []flow.Flow) error { return g.matchFlows(batch, all) })
}

func (g *gatherer) lookUpKeys(ctx context.Context, log Indexed) (cov flow.Coverage, ok bool, err error) {
	for i := range g.clues {
		only := []int{i}
		cov, ok, err = log.Lookup(ctx, g.clues[i].AskedClue, g.q.Hash, g.q.Window, func(batch []flow.Flow) error { return g.matchFlows(batch, only) })
		if err != nil || !ok {
			g.releaseMemory()
			return cov, false, err
		}
	}
	g.inWindow.Store(cov.Flows) // a look-up shows only what matches
	return cov, true, nil
}

// releaseMemory drops the results of an unfinished lookup before a scan starts.
func (g *gatherer) releaseMemory() {
	for i := range g.clues {
		g.clues[i].found, g.clues[i].ends = map[hit][]dossier.FlowEvent{}, map[hit][]farEnd{}
	}
	g.matched, g.events = 0, 0
	g.inWindow.Store(0)
}

// errFull ends a scan early: the answer will be a refusal.
var errFull = fmt.Errorf("more matching flows than the witness keeps")

// matchFlows files the flows of one batch that fit one of the clues. It may run in
// several goroutines; matches are rare, so they take the lock once a batch.
func (g *gatherer) matchFlows(batch []flow.Flow, clues []int) error {
	if g.full.Load() {
		return errFull
	}
	var matches []match
	var inWindow, matched uint64
	for i := range batch {
		f := &batch[i]
		if !g.q.Window.Contains(f.Start) {
			continue
		}
		inWindow++
		before := len(matches)
		for _, n := range clues {
			c := &g.clues[n]
			k, ok := c.keyer.Flow(f)
			if !ok || !c.wants(k) || !c.State.Accepts(f) || !c.Bounds.Accept(f, c.End) || g.isSilent(f) {
				continue
			}
			t, _ := c.Mask.Tuple(f, c.End)
			m := match{clue: n, hit: hit{t, c.End.X(f)}, event: dossier.FlowEvent{Time: f.Start, State: f.State}}
			if c.counts {
				m.end = farEnd{f.Start, c.End.Other(f), f.RespPort}
			}
			matches = append(matches, m)
		}
		if len(matches) > before {
			matched++
		}
	}
	g.inWindow.Add(inWindow)
	if len(matches) == 0 {
		return nil
	}
	return g.addMatches(matches, matched)
}

func (g *gatherer) isSilent(f *flow.Flow) bool {
	return len(g.silent) > 0 && (flow.Within(g.silent, f.Orig) || flow.Within(g.silent, f.Resp))
}

func (g *gatherer) addMatches(matches []match, flows uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events += len(matches)
	if g.events > g.limit {
		g.full.Store(true)
		return errFull
	}
	g.matched += flows
	for _, m := range matches {
		c := &g.clues[m.clue]
		c.found[m.hit] = append(c.found[m.hit], m.event)
		if c.counts {
			c.ends[m.hit] = append(c.ends[m.hit], m.end)
		}
	}
	return nil
}

// sortEvents puts every host's events in order of time, since batches arrive in any
// order, and drops hosts that do not reach a clue's counts.
func (g *gatherer) sortEvents() {
	for i := range g.clues {
		c := &g.clues[i]
		for _, events := range c.found {
			slices.SortFunc(events, dossier.FlowEvent.Compare)
		}
		if c.counts {
			c.applyCounts()
		}
	}
}
