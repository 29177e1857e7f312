package query

import (
	"context"
	"errors"
	"slices"
	"strings"

	"dragnet/flow"
	"dragnet/node/ingest"
	"dragnet/node/sensors"
	"dragnet/store"
)

// Sources lists where the flows of a data directory or database come from: what
// the store knows of logs, and behind that what the node said of the others in
// its report.
func Sources(ctx context.Context, place, report string) (all []sensors.Source, err error) {
	s, err := ingest.OpenReader(ctx, place)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if known, ok := s.(interface {
		Sources(context.Context) ([]store.ImportedLog, error)
	}); ok {
		logs, err := known.Sources(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range logs {
			if strings.HasPrefix(l.ID, "sensor ") || strings.HasPrefix(l.ID, "kafka ") {
				continue // the node's report has it
			}
			one := sensors.Source{Kind: "log", Name: l.Name, Flows: l.Flows, Lost: map[string]uint64{}}
			if l.Imported != flow.Time(0) {
				one.At = l.Imported.Time()
			}
			if l.Skipped > 0 {
				one.Lost["skipped"] = l.Skipped
			}
			all = append(all, one)
		}
		slices.SortFunc(all, func(a, b sensors.Source) int { return strings.Compare(a.Name, b.Name) })
	}
	if report == "" {
		return all, nil
	}
	r, err := sensors.ReadReport(report)
	return append(all, r.Sources...), err
}
