package enforcement

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
	"dragnet/internal/metric"
)

// metrics use no address and no guard's name as a label.
type metrics struct {
	reports, invalid, faillogs, troubles prometheus.Counter
	offenders, ratio, silent             prometheus.Gauge
	decided                              *prometheus.CounterVec
	standing                             *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	station, all := metric.Under(r, "dragnet_station_"), metric.Under(r, "dragnet_")
	return &metrics{
		reports:   station.Counter("reports_total", "Reports of guards accepted."),
		invalid:   station.Counter("invalid_reports_total", "Reports that were invalid or of no configured guard."),
		faillogs:  station.Counter("faillogs_total", "Drops of firewalls passed on to guards."),
		troubles:  station.Counter("troubles_total", "Failed updates of decisions."),
		offenders: station.Gauge("offenders", "Hosts at their limits, over all guards that report."),
		ratio:     station.Gauge("failure_ratio", "Failures per request on the last whole day, over all guards."),
		silent:    station.Gauge("silent_agents", "Guards that reported once and no longer do."),
		decided:   all.Counters("decisions_total", "Decisions made, by first verdict.", "verdict"),
		standing:  all.Gauges("decisions", "Decisions that have or would have effect, by verdict.", "verdict"),
	}
}

func (m *metrics) countDecisions(known []dossier.Decision) {
	n := map[dossier.Verdict]int{}
	for _, d := range known {
		n[d.Verdict]++
	}
	for _, v := range []dossier.Verdict{dossier.Active, dossier.DryRun} {
		m.standing.WithLabelValues(string(v)).Set(float64(n[v]))
	}
}
