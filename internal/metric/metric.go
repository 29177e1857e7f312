// Package metric makes what /metrics tells, under names that begin alike.
package metric

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Maker makes metrics and registers them. A name that stands already is a
// mistake in the program, and panics.
type Maker struct {
	factory promauto.Factory
	prefix  string
}

// Under makes metrics whose names begin with prefix. Where r is nil they count
// and nobody sees them.
func Under(r prometheus.Registerer, prefix string) Maker { return Maker{promauto.With(r), prefix} }

// Counter makes a counter.
func (m Maker) Counter(name, help string) prometheus.Counter {
	return m.factory.NewCounter(prometheus.CounterOpts{Name: m.prefix + name, Help: help})
}

// Counters makes counters told apart by a label, whose values must be the
// program's own and never a peer's.
func (m Maker) Counters(name, help, label string) *prometheus.CounterVec {
	return m.factory.NewCounterVec(prometheus.CounterOpts{Name: m.prefix + name, Help: help}, []string{label})
}

// Gauge makes a gauge.
func (m Maker) Gauge(name, help string) prometheus.Gauge {
	return m.factory.NewGauge(prometheus.GaugeOpts{Name: m.prefix + name, Help: help})
}

// Gauges makes gauges told apart by a label, as Counters does.
func (m Maker) Gauges(name, help, label string) *prometheus.GaugeVec {
	return m.factory.NewGaugeVec(prometheus.GaugeOpts{Name: m.prefix + name, Help: help}, []string{label})
}
