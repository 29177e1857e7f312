package enforcement

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
	"dragnet/internal/metric"
)

// metrics tell no address and no agent's name.
type metrics struct {
	bulletins, nonsense, faillogs, troubles prometheus.Counter
	offenders, ratio, silent                prometheus.Gauge
	decided                                 *prometheus.CounterVec
	standing                                *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	station, all := metric.Under(r, "dragnet_station_"), metric.Under(r, "dragnet_")
	return &metrics{
		bulletins: station.Counter("bulletins_total", "Reports of agents taken."),
		nonsense:  station.Counter("nonsense_total", "Reports that made no sense or came from nobody known."),
		faillogs:  station.Counter("faillogs_total", "Drops of firewalls passed on to agents."),
		troubles:  station.Counter("troubles_total", "Times that decisions could not be brought up to date."),
		offenders: station.Gauge("offenders", "Hosts at their limits, over all agents that report."),
		ratio:     station.Gauge("failure_ratio", "Failures per request on the last whole day, over all agents."),
		silent:    station.Gauge("silent_agents", "Agents that reported once and no longer do."),
		decided:   all.Counters("decisions_total", "Decisions made, by first verdict.", "verdict"),
		standing:  all.Gauges("decisions", "Decisions that have or would have effect, by verdict.", "verdict"),
	}
}

func (m *metrics) count(known []dossier.Decision) {
	n := map[dossier.Verdict]int{}
	for _, d := range known {
		n[d.Verdict]++
	}
	for _, v := range []dossier.Verdict{dossier.Active, dossier.DryRun} {
		m.standing.WithLabelValues(string(v)).Set(float64(n[v]))
	}
}
