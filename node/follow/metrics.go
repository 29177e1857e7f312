package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/internal/metric"
)

// metrics count what is read and stored. No label has values that come
// from traffic.
type metrics struct {
	read, imported, skipped, troubles, removed prometheus.Counter
	stored, bytes, newest                      prometheus.Gauge
	lag                                        prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	under := metric.Under(r, "dragnet_")
	return &metrics{
		read:     under.Counter("flows_read_total", "Flows read from logs, committed or not."),
		imported: under.Counter("flows_imported_total", "Flows imported into the data directory."),
		skipped:  under.Counter("lines_skipped_total", "Lines, packets and records that could not be used."),
		troubles: under.Counter("log_troubles_total", "Logs that could not be read or were refused, counted each time."),
		removed:  under.Counter("flows_removed_total", "Flows removed by retention."),
		stored:   under.Gauge("flows_stored", "Flows in the data directory."),
		bytes:    under.Gauge("store_bytes", "Size of the data directory's segments and indexes."),
		newest:   under.Gauge("newest_flow_timestamp_seconds", "Start of the newest flow stored."),
		lag:      under.Histogram("import_lag_seconds", "Age of the newest flow, by its start, each time that newer ones were stored."),
	}
}

// stuck is how many ticks may be missed before the follower counts as stuck.
const stuck = 60

// checkLive reports that the logs have not been read for too long.
func (f *Follower) checkLive(context.Context) error {
	since := time.Since(time.Unix(f.lastRead.Load(), 0))
	if f.ready.Load() && since > time.Minute+stuck*f.config.Every {
		return fmt.Errorf("the logs were last read %v ago", since.Round(time.Second))
	}
	return nil
}

// checkReady reports that the logs have not been read to their end once.
func (f *Follower) checkReady(context.Context) error {
	if !f.ready.Load() {
		return errors.New("the logs have not been read to their end yet, or the node is stopping")
	}
	return nil
}
