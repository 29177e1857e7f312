package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/clearinghouse"
	"dragnet/internal/metric"
)

// metrics are the clearinghouse's Prometheus metrics. The one label has three values that are the
// program's own; none comes from a peer.
type metrics struct {
	reports                                                           *prometheus.CounterVec
	refusedCallers, refusedJoins, busy, objections, failures, changes prometheus.Counter
	entries, groups, live, damaged, rosterVersion, rosterExpires      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{}
	under := metric.Under(r, "dragnet_clearinghouse_")
	m.reports = under.Counters("reports_total", "Reports submitted, by what became of them: accepted, known, refused.", "status")
	m.refusedCallers = under.Counter("callers_refused_total", "Callers turned away since their key may not report.")
	m.refusedJoins = under.Counter("joins_refused_total", "Requests to join under an invitation that is unknown, lapsed or another key's.")
	m.busy = under.Counter("busy_total", "Requests turned away since too many were being worked on.")
	m.objections = under.Counter("objections_total", "Objections filed.")
	m.failures = under.Counter("failures_total", "Requests and batches that failed by no fault of the caller.")
	m.changes = under.Counter("changes_total", "Entries listed, updated or removed.")
	m.entries = under.Gauge("entries", "Entries published.")
	m.groups = under.Gauge("groups", "Groups published.")
	m.live = under.Gauge("reports_live", "Reports that have neither lapsed nor been taken back.")
	m.damaged = under.Gauge("reports_damaged", "Stored reports that the last batch could not read, and left out.")
	m.rosterVersion = under.Gauge("roster_version", "Version of the roster in force.")
	m.rosterExpires = under.Gauge("roster_expires_timestamp_seconds", "When the roster in force expires.")
	return m
}

func (m *metrics) countPublished(p clearinghouse.Published) {
	m.changes.Add(float64(p.Listed + p.Updated + p.Removed))
	m.entries.Set(float64(p.Entries))
	m.groups.Set(float64(p.Groups))
	m.live.Set(float64(p.Reports))
	m.damaged.Set(float64(p.Damaged))
}
