package ingest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/nfdump"
	"dragnet/source/vpcflow"
)

// recording is a kind of file that is read whole, of records that are joined to
// flows.
type recording struct {
	is   func(prefix []byte) bool
	read func(f *os.File, name string, cov *flow.Coverage, emit func(*biflow.Record) error) error
}

var recordings = []recording{{nfdump.Is, readNfdump}, {vpcflow.IsParquet, vpcflow.ReadParquet}}

// recordingOf finds the kind of a file that begins with prefix, or nil.
func recordingOf(prefix []byte) *recording {
	for i := range recordings {
		if recordings[i].is(prefix) {
			return &recordings[i]
		}
	}
	return nil
}

func readNfdump(f *os.File, name string, cov *flow.Coverage, emit func(*biflow.Record) error) error {
	return nfdump.Read(bufio.NewReaderSize(f, 1<<20), name, cov, emit)
}

// unreadable is why a file, or the rest of it, cannot be read.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// scanRecording reads one file and hands the flows that begin within w to fn. An
// error of the file itself is unreadable; what came before it was handed on.
func scanRecording(ctx context.Context, path string, w flow.Window, fn func([]flow.Flow) error) (cov flow.Coverage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return cov, err
	}
	defer f.Close()
	prefix := make([]byte, 64)
	n, err := io.ReadFull(f, prefix)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return cov, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return cov, err
	}
	j := &joining{window: w, fn: fn, cov: &cov}
	join := biflow.New(biflow.Recorded(), j.add)
	now, records := flow.MinTime, 0
	err = recordingOf(prefix[:n]).read(f, path, &cov, func(r *biflow.Record) error {
		now = max(now, r.End())
		join.Add(now, r)
		if records++; records%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return j.err
	})
	join.Flush()
	j.deliver()
	switch {
	case j.err != nil:
		return cov, j.err
	case ctx.Err() != nil:
		return cov, ctx.Err()
	case err != nil:
		return cov, unreadable{err}
	}
	return cov, nil
}

// joining collects the flows of a joiner in batches.
type joining struct {
	window flow.Window
	fn     func([]flow.Flow) error
	cov    *flow.Coverage
	batch  []flow.Flow
	err    error // of fn
}

func (j *joining) add(f *flow.Flow) {
	const most = 1024
	j.cov.Saw([]flow.Flow{*f})
	if !j.window.Contains(f.Start) {
		return
	}
	if j.batch = append(j.batch, *f); len(j.batch) == most {
		j.deliver()
	}
}

func (j *joining) deliver() {
	if j.err == nil && len(j.batch) > 0 {
		j.err = j.fn(j.batch)
	}
	j.batch = j.batch[:0]
}
