package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"dragnet/internal/durable"
	"dragnet/node/sensors"
	"dragnet/source/collect"
)

// takeSensors stores what sensors sent.
func (f *Follower) takeSensors(ctx context.Context) error {
	if f.deps.Sensors == nil {
		return nil
	}
	return f.deps.Sensors.Take(ctx, func(batches []sensors.Waiting) error {
		for _, b := range batches {
			f.importedNow += uint64(len(b.Flows))
			f.metrics.imported.Add(float64(len(b.Flows)))
			if err := f.importer.AddNumbered(ctx, "sensor "+b.Sensor, b.Number, b.Flows); err != nil {
				return err
			}
		}
		return f.importer.Commit()
	})
}

// saveSources writes what was received of exporters and sensors, if it changed.
// That it cannot be written is not the end.
func (f *Follower) saveSources(ctx context.Context) {
	if f.deps.Sources == "" {
		return
	}
	var all []sensors.Source
	if f.exports != nil {
		all = append(all, exportSources(f.exports.Collector)...)
	}
	all = append(all, f.topicSources()...)
	if f.deps.Sensors != nil {
		seen, err := f.deps.Sensors.Seen(ctx)
		if err != nil {
			f.log.Error("list sensors failed", "err", err)
		}
		for i := range seen {
			all = append(all, seen[i].Source())
		}
	}
	text, err := json.Marshal(all)
	if err != nil || bytes.Equal(text, f.said) || len(all) == 0 {
		return
	}
	f.said = text
	text, err = json.MarshalIndent(sensors.Report{Version: sensors.ReportVersion, At: f.now().UTC(), Sources: all}, "", "  ")
	if err == nil {
		err = durable.WriteFile(f.deps.Sources, append(text, '\n'), 0o640)
	}
	if err != nil {
		f.log.Error("save counts of sources failed", "err", err)
	}
}

// exportSources are the configured prefixes, and behind them what was lost before
// it was known of which of them it is.
func exportSources(c *collect.Collector) (all []sensors.Source) {
	known := c.Exporters()
	slices.SortFunc(known, func(a, b collect.Exporter) int { return a.Addr.Compare(b.Addr) })
	for _, s := range c.Sources() {
		all = append(all, sensors.Source{Kind: "exporter", Name: s.Prefix.String(), Flows: s.Quality.Flows, Sampling: s.Quality.Sampling, Lost: s.Causes()})
		if s.Prefix.IsSingleIP() {
			continue
		}
		for i := range known {
			if e := &known[i]; e.Prefix == s.Prefix {
				all = append(all, sensors.Source{Kind: "address", Name: e.Addr.String(), Flows: e.Quality.Flows, Sampling: e.Quality.Sampling, Lost: e.Causes()})
			}
		}
	}
	t := c.Totals()
	return append(all, sensors.Source{Kind: "collector", Name: "all ports", Flows: t.Flows, Lost: t.Causes()})
}
