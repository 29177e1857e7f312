package witness

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"dragnet/ask/seal"
	"dragnet/dossier"
	"dragnet/flow/key"
)

// answering is the work on one question, in this order: gather the matching
// flows; group hosts by the tuples under which they match, joining clues where
// asked; evaluate the asker's blinded tuples and our own; seal each group.
type answering struct {
	w *Witness
	q *dossier.Question
	t *dossier.Testimony
	// allow, if not nil, is asked with the number of hosts that the answers name.
	allow func(hosts int) (dossier.Refusal, error)
	// key is that of this question alone.
	key *seal.WitnessKey
}

// group is one answer before sealing: the hosts that fit one combination of
// tuples.
type group struct {
	branch int // the number that the answer carries
	tuples []key.Tuple
	hosts  []dossier.StatedHost
	// first is how many of the tuples the hosts' clues are about: the others are negated.
	first int
	// chosen are the clues of those of them that an AtLeast left to choose.
	chosen []int
}

func (a *answering) run(ctx context.Context) error {
	keys := 0
	for _, c := range a.q.Clues {
		keys += len(c.Keys)
	}
	if keys > a.w.config.MaxKeys {
		a.t.Refusal = dossier.TooCostly
		return nil
	}
	g, err := newGatherer(a.q, a.w.silent, a.w.config.MaxEvents)
	if err != nil {
		return err
	}
	a.t.Coverage, err = g.readLog(ctx, a.w.log)
	switch {
	case errors.Is(err, errFull):
		a.t.Refusal = dossier.TooAmbiguous
		return nil
	case err != nil:
		return err
	case a.w.config.TooCommon > 0 && float64(g.matched) > a.w.config.TooCommon*float64(g.inWindow.Load()):
		a.t.Refusal = dossier.TooCommon
		return nil
	}
	g.sortEvents()
	groups, ok, err := a.groupHits(ctx, g)
	if err != nil {
		return err
	}
	if !ok {
		a.t.Refusal = dossier.TooAmbiguous
		return nil
	}
	if a.allow != nil {
		if a.t.Refusal, err = a.allow(countHosts(groups)); err != nil || a.t.Refusal != dossier.Answered {
			return err
		}
	}
	secrets, err := a.computeSecrets(ctx, groups)
	if err != nil || a.t.Refusal != dossier.Answered {
		return err
	}
	if err := a.evaluateBlinded(ctx); err != nil {
		return err
	}
	return a.sealGroups(groups, secrets)
}

// groupHits makes the answers; ok is false if they would exceed the bounds.
func (a *answering) groupHits(ctx context.Context, g *gatherer) (out []*group, ok bool, err error) {
	if len(a.q.Branches) == 0 {
		for i := range g.clues {
			out = append(out, clueGroups(i, &g.clues[i])...)
		}
		return out, len(out) <= a.w.config.MaxAnswers, nil
	}
	work := maxJoinWork
	for i := range a.q.Branches {
		j := newJoiner(g, i, a.w.config.MaxAnswers-len(out), &work)
		if ok, err := j.joinBranches(ctx); !ok {
			return nil, false, err
		}
		for _, group := range j.groups {
			out = append(out, group)
		}
	}
	return out, true, nil
}

// clueGroups answers one clue alone, with every event: the asker will join.
func clueGroups(clue int, c *askedClue) []*group {
	byTuple := map[key.Tuple]*group{}
	for h, events := range c.found {
		g := byTuple[h.tuple]
		if g == nil {
			g = &group{branch: clue, tuples: []key.Tuple{h.tuple}, first: 1}
			byTuple[h.tuple] = g
		}
		g.hosts = append(g.hosts, dossier.StatedHost{Addr: h.x, Clues: []dossier.StatedClue{stateClue(events, c.matching(h))}})
	}
	out := make([]*group, 0, len(byTuple))
	for _, g := range byTuple {
		out = append(out, g)
	}
	return out
}

// countHosts is the number of hosts in groups.
func countHosts(groups []*group) int {
	seen := map[netip.Addr]bool{}
	for _, g := range groups {
		for i := range g.hosts {
			seen[g.hosts[i].Addr] = true
		}
	}
	return len(seen)
}

func stateClue(all, shown []dossier.FlowEvent) dossier.StatedClue {
	return dossier.StatedClue{Flows: uint64(len(all)), First: all[0].Time, Last: all[len(all)-1].Time, Events: shown}
}

// computeSecrets computes the secret of every tuple in groups, on all cores.
func (a *answering) computeSecrets(ctx context.Context, groups []*group) (map[key.Tuple][]byte, error) {
	secrets := map[key.Tuple][]byte{}
	var tuples []key.Tuple
	for _, g := range groups {
		for _, t := range g.tuples {
			if _, seen := secrets[t]; !seen {
				secrets[t] = nil
				tuples = append(tuples, t)
			}
		}
	}
	if a.q.Mode == dossier.Paper && uint64(len(tuples))*uint64(a.q.KDFMemory) > a.w.config.MaxKDFWork {
		a.t.Refusal = dossier.TooCostly
		return nil, nil
	}
	out := make([][]byte, len(tuples))
	err := runParallel(ctx, len(tuples), func(i int) (err error) {
		if a.q.Mode == dossier.Paper {
			out[i], err = seal.PaperSecret(tuples[i], a.t.Question, a.w.name, a.q.KDFMemory)
		} else {
			out[i], err = a.key.Secret(tuples[i])
		}
		return err
	})
	for i, t := range tuples {
		secrets[t] = out[i]
	}
	return secrets, err
}

// evaluateBlinded answers the blinded elements, which is what the witness counts.
func (a *answering) evaluateBlinded(ctx context.Context) error {
	if a.q.Mode != dossier.OPRF {
		return nil
	}
	a.t.Evaluations = make([][][]byte, len(a.q.Clues))
	for c, clue := range a.q.Clues {
		out := make([][]byte, len(clue.Keys))
		err := runParallel(ctx, len(out), func(i int) (err error) {
			out[i], err = a.key.Evaluate(clue.Keys[i].Blinded)
			return err
		})
		if err != nil {
			return err
		}
		a.t.Evaluations[c] = out
		a.w.counts.Evaluations.Add(uint64(len(out)))
	}
	return nil
}

// A large group is split: each part is a separate answer.
const (
	hostsPerAnswer  = 4096
	eventsPerAnswer = 1 << 20 // at most 11 bytes each
)

// splitHosts splits hosts within the bounds; a host stays whole.
func splitHosts(hosts []dossier.StatedHost) (out [][]dossier.StatedHost) {
	from, events := 0, 0
	for i := range hosts {
		own := 0
		for _, c := range hosts[i].Clues {
			own += len(c.Events)
		}
		if i > from && (i-from == hostsPerAnswer || events+own > eventsPerAnswer) {
			out = append(out, hosts[from:i])
			from, events = i, 0
		}
		events += own
	}
	return append(out, hosts[from:])
}

func (a *answering) sealGroups(groups []*group, secrets map[key.Tuple][]byte) error {
	for _, g := range groups {
		c := seal.Context{Question: a.t.Question, Witness: a.w.name, Detective: a.q.Reply, Branch: uint16(g.branch)}
		s := dossier.Statement{}
		own := make([][]byte, len(g.tuples))
		for i, t := range g.tuples {
			own[i] = secrets[t]
			if i < g.first {
				s.First = append(s.First, t.FirstComponent())
			}
		}
		k, err := seal.NewKey(seal.AppendChosen(own, g.chosen), c)
		if err != nil {
			return err
		}
		slices.SortFunc(g.hosts, func(x, y dossier.StatedHost) int { return x.Addr.Compare(y.Addr) })
		for _, s.Hosts = range splitHosts(g.hosts) {
			text, err := s.MarshalBinary()
			if err != nil {
				return err
			}
			if len(text) > seal.MaxPlaintext { // one host with millions of events
				a.t.Refusal = dossier.TooAmbiguous
				return nil
			}
			sealed, err := k.Seal(text, uint16(g.branch))
			if err != nil {
				return err
			}
			a.t.Answers = append(a.t.Answers, sealed)
		}
	}
	// Salts are random, so this order reveals nothing.
	slices.SortFunc(a.t.Answers, func(x, y dossier.SealedAnswer) int { return bytes.Compare(x.Salt[:], y.Salt[:]) })
	return nil
}

// runParallel runs n pieces of work on all cores until one fails.
func runParallel(ctx context.Context, n int, work func(i int) error) error {
	g, failed := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := 0; i < n && failed.Err() == nil; i++ {
		g.Go(func() error { return work(i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
