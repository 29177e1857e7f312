package packets

import (
	"context"
	"errors"

	"dragnet/flow"
	"dragnet/packet"
)

// batchSize bounds the flows per call of fn.
const batchSize = 1024

// Scan reads all files and calls fn with the flows that start within w, in the
// order in which they end; a batch is valid during the call. Every column of
// cols is filled. The coverage counts all flows, in and out of w, and what
// could not be used, even when err is not nil.
func (l *Recording) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	s := &scan{window: w, fn: fn, batch: make([]flow.Flow, 0, batchSize)}
	err := s.runScan(ctx, l)
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

func (s *scan) runScan(ctx context.Context, l *Recording) error {
	m, err := newMerge(l.files, &s.cov)
	if err != nil {
		return err
	}
	defer m.closeAll()
	for _, t := range m.waiting {
		if l.Checksums == JudgeChecksums && t.head.rewritten && len(s.cov.Problems) < 16 {
			s.cov.Problems = append(s.cov.Problems, flow.Problem{Place: t.path,
				Reason: "most checksums are wrong, as if addresses were replaced: they are ignored"})
		}
	}
	a := New(l.Config, s.addFlow)
	var p packet.Packet
	for n := 0; s.err == nil; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		t, err := m.nextFile()
		if err != nil {
			return err
		}
		if t == nil {
			break
		}
		a.config.IgnoreChecksums = l.ignoresChecksums(t)
		rec := &t.next
		err = p.Decode(rec.Link, rec.Data, rec.Wire)
		if err == nil {
			err = a.Packet(rec.Time, &p)
		}
		if err != nil && !errors.Is(err, packet.ErrNotIP) && !errors.Is(err, ErrPiece) {
			s.cov.Skip(t.placeOf(rec.Number), "%v", err)
		}
	}
	a.Flush()
	s.deliverBatch()
	return s.err
}

// ignoresChecksums reports whether to ignore the checksums of a file.
func (l *Recording) ignoresChecksums(t *captureFile) bool {
	return l.Checksums == IgnoreChecksums || l.Checksums == JudgeChecksums && t.head.rewritten
}

// addFlow adds a finished flow.
func (s *scan) addFlow(f *flow.Flow) {
	s.cov.Saw([]flow.Flow{*f})
	if !s.window.Contains(f.Start) {
		return
	}
	if s.batch = append(s.batch, *f); len(s.batch) == batchSize {
		s.deliverBatch()
	}
}

func (s *scan) deliverBatch() {
	if s.err == nil && len(s.batch) > 0 {
		s.err = s.fn(s.batch)
	}
	s.batch = s.batch[:0]
}
