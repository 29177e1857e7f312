// Package hunt runs the detective's job over logs on this machine: each source is
// a witness, and the whole protocol runs between them in this process, without
// shortcuts. The detective part gets sealed bytes only, the witness part
// questions only.
package hunt

import (
	"context"
	"net/netip"
	"runtime"

	"golang.org/x/sync/errgroup"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// NamedLog is a name and what it logged.
type NamedLog struct {
	Name string
	Log  flow.Log
	// Ask, if set, asks a remote witness, and Log is not used. It returns the
	// problems the witness had when reading.
	Ask func(ctx context.Context, question []byte) (sealed []byte, problems []flow.Problem, err error)
}

// Configuration of a hunt.
type Configuration struct {
	Detective detective.Configuration
	Witness   witness.Configuration
	// Silent are networks whose hosts no witness names.
	Silent []netip.Prefix
	// Asking, if set, is called with what the question gives away before it is
	// sent to any witness.
	Asking func([]detective.MeteredKey)
	// Read, if set, is called with the number of flows in each batch read.
	Read func(flows int)
}

// Outcome holds what a hunt found, and what each witness's operator would see.
type Outcome struct {
	Inquiry *detective.Inquiry
	Result  detective.Result
	// Coverage holds, by witness, what was read and the first problems.
	Coverage map[string]flow.Coverage
	// Evaluations counts, by witness of this process, the guesses it evaluated.
	Evaluations map[string]uint64
	// QuestionBytes is the size of the question every witness got.
	QuestionBytes int
}

// Run asks all sources and opens their answers.
func Run(ctx context.Context, c Configuration, p *pattern.Pattern, sources []NamedLog) (*Outcome, error) {
	inquiry, err := detective.New(c.Detective, p)
	if err != nil {
		return nil, err
	}
	if c.Asking != nil {
		c.Asking(inquiry.Meter())
	}
	type testimony struct {
		sealed      []byte
		coverage    flow.Coverage
		evaluations uint64
	}
	answers := make([]testimony, len(sources))
	g, asked := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range sources {
		g.Go(func() error {
			a := &answers[i]
			if s.Ask != nil {
				var err error
				a.sealed, a.coverage.Problems, err = s.Ask(asked, inquiry.Question())
				return err
			}
			w, err := newWitness(c, s)
			if err != nil {
				return err
			}
			a.sealed, a.coverage, err = w.Answer(asked, inquiry.Question())
			a.evaluations = w.Counts().Evaluations.Load()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := &Outcome{Inquiry: inquiry, Coverage: map[string]flow.Coverage{}, Evaluations: map[string]uint64{}, QuestionBytes: len(inquiry.Question())}
	for i, s := range sources {
		if _, err := inquiry.OpenTestimony(ctx, s.Name, answers[i].sealed); err != nil {
			return nil, err
		}
		out.Coverage[s.Name], out.Evaluations[s.Name] = answers[i].coverage, answers[i].evaluations
	}
	out.Result = inquiry.Result()
	return out, nil
}

func newWitness(c Configuration, s NamedLog) (*witness.Witness, error) {
	log := s.Log
	if c.Read != nil {
		counting := countedLog{log, c.Read}
		log = counting
		if indexed, ok := s.Log.(witness.Indexed); ok {
			log = countedIndexedLog{counting, indexed}
		}
	}
	return witness.New(c.Witness, s.Name, log, c.Silent)
}

// countedLog reports progress.
type countedLog struct {
	flow.Log
	read func(int)
}

func (l countedLog) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	return l.Log.Scan(ctx, w, cols, func(batch []flow.Flow) error {
		l.read(len(batch))
		return fn(batch)
	})
}

// countedIndexedLog is a countedLog with look-ups.
type countedIndexedLog struct {
	countedLog
	indexed witness.Indexed
}

func (l countedIndexedLog) Lookup(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, fn func([]flow.Flow) error) (flow.Coverage, bool, error) {
	return l.LookupAmong(ctx, c, h, w, nil, fn)
}

func (l countedIndexedLog) LookupAmong(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, hosts map[netip.Addr]bool, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error) {
	if by, can := l.indexed.(witness.IndexedByHost); can {
		cov, ok, err = by.LookupAmong(ctx, c, h, w, hosts, fn)
	} else {
		cov, ok, err = l.indexed.Lookup(ctx, c, h, w, fn)
	}
	l.read(int(cov.Flows))
	return cov, ok, err
}
