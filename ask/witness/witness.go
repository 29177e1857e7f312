// Package witness answers questions from a log of flows. It states facts and
// judges nothing (Allman et al. 2006, section 2.2): it sees keys, never
// patterns, cannot tell the true match from a collision, and so returns every
// match, each sealed under its own tuple.
//
// What it learns from a question: direction, mask, state filter, window, the
// shape of the pattern if it joins, and an ambiguous key per clue.
package witness

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"dragnet/ask/seal"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/conf"
)

// Indexed is a log that finds flows by their key faster than by handing over
// all of them: from an index of standard questions, or by hashing columns.
type Indexed interface {
	flow.Log
	// Lookup hands to fn, as Scan does, at least the flows in w whose key is
	// among the clue's; ok is false if Scan serves this clue and hash better.
	// The coverage is that of Scan.
	Lookup(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error)
}

// IndexedByHost is an Indexed log that can leave out flows of hosts that do not matter
// before it reads all of them.
type IndexedByHost interface {
	Indexed
	// LookupAmong is Lookup where only flows whose X is one of hosts matter.
	LookupAmong(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, hosts map[netip.Addr]bool, fn func([]flow.Flow) error) (cov flow.Coverage, ok bool, err error)
}

// Configuration of a witness.
type Configuration struct {
	// TooCommon is the share of flows in the window (0..1) above which a
	// question is refused as too common; 0 never refuses. It is part of the
	// policy toward others (package policy), not of this section.
	TooCommon float64 `yaml:"-"`
	// MaxEvents bounds the matching flows kept in memory for one question, in units of
	// 64 bytes: the first flow of a host under a value takes five, further ones
	// one half each.
	MaxEvents int `yaml:"max_events"`
	// MaxAnswers bounds the sealed answers of one testimony.
	MaxAnswers int `yaml:"max_answers"`
	// MaxKeys bounds the keys of one question, each of which costs an OPRF
	// evaluation of about 70 µs.
	MaxKeys int `yaml:"max_keys"`
	// MaxKDFWork bounds, in Paper mode, the product of distinct tuples and KiB
	// of memory: 1 GiB of work takes about a second.
	MaxKDFWork uint64 `yaml:"max_kdf_work"`
}

// DefaultConfiguration suits a log of 10^8 flows on a small machine.
func DefaultConfiguration() Configuration {
	return Configuration{MaxEvents: 4 << 20, MaxAnswers: 1 << 17, MaxKeys: 1 << 16, MaxKDFWork: 1 << 28}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.TooCommon >= 0 && c.TooCommon <= 1, "too_common", "is %g; want a share between 0 and 1", c.TooCommon)
	p.Check(c.MaxEvents >= 1, "max_events", "is %d; want at least 1", c.MaxEvents)
	p.Check(c.MaxAnswers >= 1 && c.MaxAnswers <= dossier.MaxAnswers, "max_answers", "is %d; want 1 to %d", c.MaxAnswers, dossier.MaxAnswers)
	p.Check(c.MaxKeys >= 1, "max_keys", "is %d; want at least 1", c.MaxKeys)
	p.Check(c.MaxKDFWork >= 1, "max_kdf_work", "is %d; want at least 1", c.MaxKDFWork)
	return p.Join()
}

// Witness answers questions. It is safe for concurrent use.
type Witness struct {
	config Configuration
	name   string
	silent []netip.Prefix
	log    flow.Log
	master *seal.MasterKey
	counts Counts
}

// Counts are totals since the witness was made.
type Counts struct {
	Questions, Refused, Evaluations, Answers atomic.Uint64
}

// New is a witness called name over a log. It never speaks about flows that
// touch the networks in silent. The key of its oblivious function is
// drawn here and never stored.
func New(config Configuration, name string, log flow.Log, silent []netip.Prefix) (*Witness, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Witness{config: config, name: name, silent: silent, log: log, master: seal.NewMasterKey()}, nil
}

// Name is the name under which the witness testifies.
func (w *Witness) Name() string { return w.name }

// Counts are the witness's running totals.
func (w *Witness) Counts() *Counts { return &w.counts }

// Answer turns the bytes of a question into a sealed testimony. The second
// result is the witness's own view of what it read, for its operator: the
// testimony leaves the problems out.
func (w *Witness) Answer(ctx context.Context, question []byte) (sealed []byte, cov flow.Coverage, err error) {
	sealed, t, err := w.Testify(ctx, question, nil)
	if err != nil {
		return nil, cov, err
	}
	return sealed, t.Coverage, nil
}

// Testify is Answer with the testimony as it was before it was sealed, whose
// coverage still has the problems. Allow, if not nil, is asked with the number of
// hosts that the answers name, and may refuse them.
func (w *Witness) Testify(ctx context.Context, question []byte, allow func(hosts int) (dossier.Refusal, error)) (sealed []byte, t *dossier.Testimony, err error) {
	w.counts.Questions.Add(1)
	var q dossier.Question
	if err := q.UnmarshalBinary(question); err != nil {
		return nil, nil, err
	}
	t = &dossier.Testimony{Question: dossier.IDOf(question), Witness: w.name}
	k, err := w.master.ForQuestion(t.Question)
	if err != nil {
		return nil, nil, err
	}
	a := answering{w: w, q: &q, t: t, key: k, allow: allow}
	if err := a.run(ctx); err != nil {
		return nil, nil, fmt.Errorf("witness %s: %w", w.name, err)
	}
	if t.Refusal != dossier.Answered {
		w.counts.Refused.Add(1)
		t.Answers, t.Evaluations = nil, nil
	}
	w.counts.Answers.Add(uint64(len(t.Answers)))
	sealed, err = seal.SealTestimony(t, q.Reply)
	return sealed, t, err
}

// Refuse seals a refusal decided by the caller. It reveals nothing about the log,
// not even its coverage.
func (w *Witness) Refuse(question []byte, why dossier.Refusal) (sealed []byte, t *dossier.Testimony, err error) {
	w.counts.Questions.Add(1)
	w.counts.Refused.Add(1)
	var q dossier.Question
	if err := q.UnmarshalBinary(question); err != nil {
		return nil, nil, err
	}
	t = &dossier.Testimony{Question: dossier.IDOf(question), Witness: w.name, Refusal: why}
	sealed, err = seal.SealTestimony(t, q.Reply)
	return sealed, t, err
}
