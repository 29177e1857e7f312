package clearing

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"dragnet/clearinghouse"
)

// metrics are what /metrics tells. The one label has three values that are the
// program's own; none comes from a peer.
type metrics struct {
	registry                                            *prometheus.Registry
	reports                                             *prometheus.CounterVec
	refusedCallers, busy, objections, failures, changes prometheus.Counter
	entries, groups, live, rosterVersion, rosterExpires prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "dragnet_clearinghouse_" + name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dragnet_clearinghouse_" + name, Help: help})
		m.registry.MustRegister(g)
		return g
	}
	m.reports = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dragnet_clearinghouse_reports_total", Help: "Reports submitted, by what became of them: accepted, known, refused."}, []string{"status"})
	m.registry.MustRegister(m.reports, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.refusedCallers = counter("callers_refused_total", "Callers turned away since their key may not report.")
	m.busy = counter("busy_total", "Requests turned away since too many were being worked on.")
	m.objections = counter("objections_total", "Objections filed.")
	m.failures = counter("failures_total", "Requests and batches that failed by no fault of the caller.")
	m.changes = counter("changes_total", "Entries listed, updated or removed.")
	m.entries = gauge("entries", "Entries published.")
	m.groups = gauge("groups", "Groups published.")
	m.live = gauge("reports_live", "Reports that have neither lapsed nor been taken back.")
	m.rosterVersion = gauge("roster_version", "Version of the roster in force.")
	m.rosterExpires = gauge("roster_expires_timestamp_seconds", "When the roster in force expires.")
	return m
}

func (m *metrics) published(p clearinghouse.Published) {
	m.changes.Add(float64(p.Listed + p.Updated + p.Removed))
	m.entries.Set(float64(p.Entries))
	m.groups.Set(float64(p.Groups))
	m.live.Set(float64(p.Reports))
}
