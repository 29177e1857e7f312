package endpoint

import (
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/ask/witness/audit"
	"dragnet/dossier"
	"dragnet/internal/metric"
)

// metrics are the witness's Prometheus metrics. None is labelled by asker.
type metrics struct {
	answered, refused, rejected, troubles prometheus.Counter
	answerTime                            prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	under := metric.Under(r, "dragnet_witness_")
	return &metrics{
		answered:   under.Counter("answered_total", "Questions answered."),
		refused:    under.Counter("refused_total", "Questions refused, by policy or because they cost too much."),
		rejected:   under.Counter("rejected_total", "Envelopes that were forged, expired, replayed, malformed or from strangers."),
		troubles:   under.Counter("troubles_total", "Questions that failed by an internal error."),
		answerTime: under.Histogram("answer_seconds", "Time from a question's arrival to its sealed answer; refused ones and those that waited for a place are in it."),
	}
}

func (m *metrics) countOutcome(o audit.Settlement) {
	if o.Refusal == dossier.Answered {
		m.answered.Inc()
	} else {
		m.refused.Inc()
	}
}
