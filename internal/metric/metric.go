// Package metric registers Prometheus metrics under a common name prefix.
package metric

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Maker makes metrics and registers them. Registering a name twice panics.
type Maker struct {
	factory promauto.Factory
	prefix  string
}

// Under returns a maker of metrics whose names begin with prefix. If r is nil the
// metrics are not registered.
func Under(r prometheus.Registerer, prefix string) Maker { return Maker{promauto.With(r), prefix} }

// Counter makes a counter.
func (m Maker) Counter(name, help string) prometheus.Counter {
	return m.factory.NewCounter(prometheus.CounterOpts{Name: m.prefix + name, Help: help})
}

// CounterFunc makes a counter whose value f returns, from any goroutine.
func (m Maker) CounterFunc(name, help string, f func() uint64) {
	m.factory.NewCounterFunc(prometheus.CounterOpts{Name: m.prefix + name, Help: help}, func() float64 { return float64(f()) })
}

// GaugeFunc makes a gauge whose value f returns, from any goroutine.
func (m Maker) GaugeFunc(name, help string, f func() float64) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{Name: m.prefix + name, Help: help}, f)
}

// Counters makes counters that a label distinguishes. Its values must be the
// program's, never a peer's.
func (m Maker) Counters(name, help, label string) *prometheus.CounterVec {
	return m.factory.NewCounterVec(prometheus.CounterOpts{Name: m.prefix + name, Help: help}, []string{label})
}

// Gauge makes a gauge.
func (m Maker) Gauge(name, help string) prometheus.Gauge {
	return m.factory.NewGauge(prometheus.GaugeOpts{Name: m.prefix + name, Help: help})
}

// Seconds are the bounds of a histogram of durations: from a millisecond to an hour.
var Seconds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}

// Histogram makes a histogram of durations in Seconds.
func (m Maker) Histogram(name, help string) prometheus.Histogram {
	return m.factory.NewHistogram(prometheus.HistogramOpts{Name: m.prefix + name, Help: help, Buckets: Seconds})
}

// Histograms makes histograms of durations that a label distinguishes, as Counters does.
func (m Maker) Histograms(name, help, label string) *prometheus.HistogramVec {
	return m.factory.NewHistogramVec(prometheus.HistogramOpts{Name: m.prefix + name, Help: help, Buckets: Seconds}, []string{label})
}

// Gauges makes gauges that a label distinguishes, as Counters does.
func (m Maker) Gauges(name, help, label string) *prometheus.GaugeVec {
	return m.factory.NewGaugeVec(prometheus.GaugeOpts{Name: m.prefix + name, Help: help}, []string{label})
}
