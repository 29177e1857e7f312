package testify

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/ask/witness/docket"
	"dragnet/dossier"
)

// metrics are what /metrics tells about the witness. None is labelled by who
// asked.
type metrics struct {
	answered, refused, rejected, troubles prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "dragnet_witness_" + name, Help: help})
		if r != nil {
			r.MustRegister(c)
		}
		return c
	}
	return &metrics{
		answered: counter("answered_total", "Questions answered."),
		refused:  counter("refused_total", "Questions refused, by policy or because they cost too much."),
		rejected: counter("rejected_total", "Envelopes that were forged, expired, replayed, malformed or from strangers."),
		troubles: counter("troubles_total", "Questions that failed for reasons of our own."),
	}
}

func (m *metrics) count(o docket.Outcome) {
	if o.Refusal == dossier.Answered {
		m.answered.Inc()
	} else {
		m.refused.Inc()
	}
}
