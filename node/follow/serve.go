package follow

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dragnet/internal/metric"
)

// metrics are what /metrics tells. None has a label whose values come from
// traffic.
type metrics struct {
	registry                                   *prometheus.Registry
	read, imported, skipped, troubles, removed prometheus.Counter
	stored, bytes, newest                      prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	under := metric.Under(m.registry, "dragnet_")
	m.read = under.Counter("flows_read_total", "Flows read from logs, committed or not.")
	m.imported = under.Counter("flows_imported_total", "Flows imported into the data directory.")
	m.skipped = under.Counter("lines_skipped_total", "Lines, packets or records that could not be used.")
	m.troubles = under.Counter("log_troubles_total", "Times that a log could not be read or was refused.")
	m.removed = under.Counter("flows_removed_total", "Flows removed by retention.")
	m.stored = under.Gauge("flows_stored", "Flows in the data directory.")
	m.bytes = under.Gauge("store_bytes", "Size of the data directory's segments and indexes.")
	m.newest = under.Gauge("newest_flow_timestamp_seconds", "Start of the newest flow stored.")
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// stuck is how many turns may be missed before /livez says so.
const stuck = 60

// serve answers on the loopback port.
func (s *Service) serve() error {
	if s.config.Listen == "" {
		return nil
	}
	listener, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		last := time.Unix(s.lastTurn.Load(), 0)
		if since := time.Since(last); s.ready.Load() && since > time.Minute+stuck*s.config.Every {
			http.Error(w, fmt.Sprintf("the logs were last looked at %v ago", since.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "the logs have not been read to their end yet, or the node is stopping", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("serve metrics", "err", err)
		}
	}()
	return nil
}
