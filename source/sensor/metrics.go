//go:build linux

package sensor

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/internal/admin"
	"dragnet/internal/metric"
)

// metrics of a sensor.
type metrics struct {
	flows, packets, dropped, skipped, early, lost prometheus.Counter
}

func newMetrics(a *admin.Server) metrics {
	m := metric.Under(a.Metrics(), "dragnet_sensor_")
	return metrics{
		flows:   m.Counter("flows_total", "Flows that ended and were handed to the spool."),
		packets: m.Counter("packets_total", "Packets read."),
		dropped: m.Counter("packets_dropped_total", "Packets that the kernel dropped because its ring was full."),
		skipped: m.Counter("packets_skipped_total", "IP packets that could not be used."),
		early:   m.Counter("flows_early_total", "Flows reported before their end, for lack of room."),
		lost:    m.Counter("flows_lost_total", "Flows that were not reported, or could not be spooled."),
	}
}

// add adds what a worker counted since the last time.
func (m *metrics) add(c Counts) {
	m.packets.Add(float64(c.Packets))
	m.dropped.Add(float64(c.Dropped))
	m.skipped.Add(float64(c.Skipped))
	m.early.Add(float64(c.Early))
	m.lost.Add(float64(c.Lost))
}
