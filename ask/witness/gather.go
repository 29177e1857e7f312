package witness

import (
	"context"
	"errors"
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
	halves  int        // memory taken, in units of 32 bytes
}

// A further flow of a host under a value takes eventUnits of 32 bytes: 16 bytes in a
// slice that grows by doubling. The first one takes firstUnits: the
// host and the value as key of a map, and the slice, measured as 280 to 320 bytes.
// A far end that is counted takes farEndUnits.
const (
	eventUnits  = 1
	firstUnits  = 10
	farEndUnits = 3
)

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
	// among, if not nil, are the only X that can fit the pattern.
	among map[netip.Addr]bool
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
// else by hashing every flow. Hosts that cannot fit the pattern by the clues looked up
// first are left out of the others: a clue without an address may fit most flows.
func (g *gatherer) readLog(ctx context.Context, log flow.Log) (flow.Coverage, error) {
	first, others := g.planOrder()
	if indexed, ok := log.(Indexed); ok {
		cov, ok, err := g.lookUpKeys(ctx, indexed, first, others)
		if ok || err != nil {
			return cov, err
		}
	}
	// A file is best read once; only if that takes too much memory, twice.
	cov, err := g.scanFor(ctx, log, slices.Concat(first, others))
	if !errors.Is(err, errFull) || len(others) == 0 {
		return cov, err
	}
	g.releaseMemory()
	if cov, err = g.scanFor(ctx, log, first); err != nil {
		return cov, err
	}
	g.restrict(others)
	return g.scanFor(ctx, log, others)
}

func (g *gatherer) scanFor(ctx context.Context, log flow.Log, clues []int) (flow.Coverage, error) {
	columns := flow.Failures
	for _, i := range clues {
		columns |= g.clues[i].Bounds.Columns()
	}
	g.inWindow.Store(0)
	return log.Scan(ctx, g.q.Window, columns, func(batch []flow.Flow) error { return g.matchFlows(batch, clues) })
}

func (g *gatherer) lookUpKeys(ctx context.Context, log Indexed, first, others []int) (cov flow.Coverage, ok bool, err error) {
	for n, i := range slices.Concat(first, others) {
		if n == len(first) {
			g.restrict(others)
		}
		only := []int{i}
		fn := func(batch []flow.Flow) error { return g.matchFlows(batch, only) }
		c := &g.clues[i]
		if by, can := log.(IndexedByHost); can && c.among != nil {
			cov, ok, err = by.LookupAmong(ctx, c.AskedClue, g.q.Hash, g.q.Window, c.among, fn)
		} else {
			cov, ok, err = log.Lookup(ctx, c.AskedClue, g.q.Hash, g.q.Window, fn)
		}
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
		c := &g.clues[i]
		c.found, c.ends, c.among = map[hit][]dossier.FlowEvent{}, map[hit][]farEnd{}, nil
	}
	g.matched, g.halves = 0, 0
	g.full.Store(false)
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
			if !ok || !c.wants(k) || c.among != nil && !c.among[c.End.X(f)] || !c.State.Accepts(f) || !c.Bounds.Accept(f, c.End) || g.isSilent(f) {
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
	g.matched += flows
	for _, m := range matches {
		c := &g.clues[m.clue]
		events, known := c.found[m.hit]
		g.halves += eventUnits
		if !known {
			g.halves += firstUnits - eventUnits
		}
		if c.counts {
			g.halves += farEndUnits
			c.ends[m.hit] = append(c.ends[m.hit], m.end)
		}
		if g.halves/2 > g.limit {
			g.full.Store(true)
			return errFull
		}
		c.found[m.hit] = append(events, m.event)
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
