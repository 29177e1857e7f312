package follow

import (
	"context"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/flow"
	"dragnet/source/collect"
)

// exports are the flows that exporters send over the network.
type exports struct {
	*collect.Collector
	lost     map[netip.Addr]uint64 // as last reported in the log
	reported time.Time
}

// nearlyFull receives a value when flows should be taken before the next tick.
func (e *exports) nearlyFull() <-chan struct{} {
	if e == nil {
		return nil
	}
	return e.Full()
}

// takeExports stores the flows that have ended.
func (f *Follower) takeExports(ctx context.Context) error {
	if f.exports == nil {
		return nil
	}
	err := f.exports.Take(func(batch []flow.Flow) error {
		f.importedNow += uint64(len(batch))
		f.metrics.imported.Add(float64(len(batch)))
		return f.importer.Add(ctx, batch)
	})
	if err != nil {
		return err
	}
	f.reportLosses()
	return f.importer.Commit()
}

// endExports stores what the collector still holds.
func (f *Follower) endExports(ctx context.Context) error {
	if f.exports == nil {
		return nil
	}
	if err := f.exports.Stop(ctx); err != nil {
		f.log.Error("stop collector failed", "err", err)
	}
	return f.takeExports(ctx)
}

// reportEvery is how often losses are logged, and templates saved.
const reportEvery = time.Minute

// reportLosses logs the exporters whose flows were lost since the last report.
func (f *Follower) reportLosses() {
	e, now := f.exports, f.now()
	if now.Sub(e.reported).Abs() < reportEvery {
		return
	}
	e.reported = now
	before := e.lost
	e.noteLosses()
	for _, x := range e.Exporters() {
		if lost := x.Lost(); lost > before[x.Addr] {
			f.log.Warn("exports lost", "exporter", x.Addr, "lost", lost-before[x.Addr], "missing_in_sequence", x.NetFlow.Lost+x.SFlow.Lost,
				"sets_without_template", x.NetFlow.UnknownTemplate, "samples_dropped_by_exporter", x.SFlow.Dropped)
		}
	}
	if err := e.Save(); err != nil {
		f.log.Error("save templates of exporters failed", "err", err)
	}
}

// noteLosses keeps what the exporters known now have lost.
func (e *exports) noteLosses() {
	e.lost = map[netip.Addr]uint64{}
	for _, x := range e.Exporters() {
		e.lost[x.Addr] = x.Lost()
	}
}

// registerMetrics registers the metrics of exports. None has a label: a sender of
// forged datagrams would choose its value.
func (e *exports) registerMetrics(r prometheus.Registerer) {
	counter := func(name, help string, value func() uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "dragnet_exports_" + name, Help: help}, func() float64 { return float64(value()) }))
	}
	sum := func(of func(*collect.Counters) uint64) func() uint64 {
		return func() (n uint64) {
			for _, x := range e.Sources() {
				n += of(&x.Counters)
			}
			return n
		}
	}
	counter("datagrams_total", "Datagrams received.", func() uint64 { return e.Totals().Datagrams })
	counter("overflowed_total", "Datagrams the kernel dropped because a receive buffer was full.", func() uint64 { return e.Totals().Overflowed })
	counter("foreign_total", "Datagrams from senders that are not configured.", func() uint64 { return e.Totals().Foreign })
	counter("unknown_total", "Datagrams of an unknown format.", func() uint64 { return e.Totals().Unknown })
	counter("refused_total", "Datagrams of exporters beyond max_exporters.", func() uint64 { return e.Totals().Refused })
	counter("flows_total", "Flows made of exports.", func() uint64 { return e.Totals().Flows })
	counter("dropped_total", "Flows dropped because too many were pending.", func() uint64 { return e.Totals().Dropped })
	counter("records_total", "Flow records and packet samples decoded.", sum(func(x *collect.Counters) uint64 { return x.NetFlow.Records + x.SFlow.Records }))
	counter("missing_total", "Flows and datagrams missing in exporters' sequence numbers.", sum(func(x *collect.Counters) uint64 { return x.NetFlow.Lost + x.SFlow.Lost }))
	counter("without_template_total", "Sets of records whose template was not known.", sum(func(x *collect.Counters) uint64 { return x.NetFlow.UnknownTemplate }))
	counter("malformed_total", "Datagrams with a part that could not be used.", sum(func(x *collect.Counters) uint64 { return x.NetFlow.Malformed + x.SFlow.Malformed }))
	counter("one_sided_total", "TCP flows of which an exporter saw one direction only.", sum(func(x *collect.Counters) uint64 { return x.Quality.OneSided }))
}
