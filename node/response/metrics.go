package response

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
)

// metrics tell no address and no agent's name.
type metrics struct {
	bulletins, nonsense, faillogs, troubles prometheus.Counter
	offenders, ratio, silent                prometheus.Gauge
	decided                                 *prometheus.CounterVec
	standing                                *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "dragnet_station_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dragnet_station_" + name, Help: help})
		r.MustRegister(g)
		return g
	}
	m := &metrics{
		bulletins: counter("bulletins_total", "Reports of agents taken."),
		nonsense:  counter("nonsense_total", "Reports that made no sense or came from nobody known."),
		faillogs:  counter("faillogs_total", "Drops of firewalls passed on to agents."),
		troubles:  counter("troubles_total", "Times that decisions could not be brought up to date."),
		offenders: gauge("offenders", "Hosts at their limits, over all agents that report."),
		ratio:     gauge("failure_ratio", "Failures per request on the last whole day, over all agents."),
		silent:    gauge("silent_agents", "Agents that reported once and no longer do."),
		decided:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dragnet_decisions_total", Help: "Decisions made, by first verdict."}, []string{"verdict"}),
		standing:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dragnet_decisions", Help: "Decisions that have or would have effect, by verdict."}, []string{"verdict"}),
	}
	r.MustRegister(m.decided, m.standing)
	return m
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
