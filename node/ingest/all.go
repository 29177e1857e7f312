package ingest

import (
	"context"

	"dragnet/flow"
)

// Logs are several paths read as one log.
type Logs []flow.Log

// OpenAll opens each path as Open does.
func OpenAll(paths []string) (Logs, error) {
	var all Logs
	for _, path := range paths {
		l, err := Open(path)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// Scan reads one log after another; see flow.Log.
func (all Logs) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	for _, l := range all {
		c, err := l.Scan(ctx, w, cols, fn)
		cov.Merge(c)
		if err != nil {
			return cov, err
		}
	}
	return cov, nil
}
