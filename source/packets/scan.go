package packets

import (
	"context"
	"errors"

	"dragnet/flow"
	"dragnet/packet"
)

// batchSize is how many flows a call of fn gets at most.
const batchSize = 1024

// Scan reads all files and hands the flows that begin within w to fn, in the
// order in which they end; a batch is valid during the call. Every column of
// cols is filled. The coverage counts all flows, in and out of w, and what
// could not be used, even when err is not nil.
func (l *Log) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	s := &scan{window: w, fn: fn, batch: make([]flow.Flow, 0, batchSize)}
	err := s.run(ctx, l)
	s.cov.Sampling = 1
	return s.cov, err
}

// scan is one run of Scan.
type scan struct {
	window flow.Window
	fn     func([]flow.Flow) error
	cov    flow.Coverage
	batch  []flow.Flow
	err    error // of fn
}

func (s *scan) run(ctx context.Context, l *Log) error {
	m, err := newMerge(l.files, &s.cov)
	if err != nil {
		return err
	}
	defer m.close()
	for _, t := range m.waiting {
		if l.Checksums == JudgeChecksums && t.head.rewritten && len(s.cov.Problems) < 16 {
			s.cov.Problems = append(s.cov.Problems, flow.Problem{Place: t.path,
				Reason: "most checksums are wrong, as where addresses were replaced: they are ignored"})
		}
	}
	a := New(l.Config, s.add)
	var p packet.Packet
	for n := 0; s.err == nil; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		t, err := m.step()
		if err != nil {
			return err
		}
		if t == nil {
			break
		}
		a.config.IgnoreChecksums = l.ignores(t)
		rec := &t.next
		err = p.Decode(rec.Link, rec.Data, rec.Wire)
		if err == nil {
			err = a.Packet(rec.Time, &p)
		}
		if err != nil && !errors.Is(err, packet.ErrNotIP) && !errors.Is(err, ErrPiece) {
			s.cov.Skip(t.place(rec.Number), "%v", err)
		}
	}
	a.Flush()
	s.deliver()
	return s.err
}

// ignores reports whether checksums of a file mean nothing.
func (l *Log) ignores(t *tape) bool {
	return l.Checksums == IgnoreChecksums || l.Checksums == JudgeChecksums && t.head.rewritten
}

// add takes a finished flow.
func (s *scan) add(f *flow.Flow) {
	s.cov.Saw([]flow.Flow{*f})
	if !s.window.Contains(f.Start) {
		return
	}
	if s.batch = append(s.batch, *f); len(s.batch) == batchSize {
		s.deliver()
	}
}

func (s *scan) deliver() {
	if s.err == nil && len(s.batch) > 0 {
		s.err = s.fn(s.batch)
	}
	s.batch = s.batch[:0]
}
