// Package admin serves the health checks and metrics of a role to programs on the
// same machine: /livez, /readyz and /metrics.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dragnet/internal/run"
)

// Configuration of the server.
type Configuration struct {
	// Listen is the loopback address where /livez, /readyz and /metrics are
	// served, such as 127.0.0.1:9120; empty serves none.
	Listen string `yaml:"listen"`
}

// Validate reports an address that other machines could reach.
func (c *Configuration) Validate() error {
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; want such as 127.0.0.1:9120", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("listen: %s is not a loopback address; use one such as 127.0.0.1, as metrics are for this machine only", host)
	}
	return nil
}

// Check reports what is wrong with a part; nil means that it works.
type Check func(ctx context.Context) error

// Server answers health checks and serves metrics. Parts register their metrics
// and checks before the server is started, which is after they are. A nil Server
// accepts them and serves nothing.
type Server struct {
	config      Configuration
	log         *slog.Logger
	registry    *prometheus.Registry
	live, ready []Check
	status      []StatusFunc
	probed      probed
	server      *http.Server
	group       *run.Group
	address     string
}

// New makes a server; Start listens. Its metrics include the release and commit,
// and those of the process and of Go's runtime.
func New(c Configuration, release, commit string, log *slog.Logger) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, log: log, registry: prometheus.NewRegistry(), group: run.NewGroup(), probed: probed{every: probeEvery}}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dragnet_build_info", Help: "Always 1; the labels say what was built.",
		ConstLabels: prometheus.Labels{"release": release, "commit": commit, "go": runtime.Version()},
	})
	build.Set(1)
	s.registry.MustRegister(build)
	registerRuntime(s.registry)
	return s, nil
}

// registerRuntime registers metrics of Go's runtime and of the process. The package
// prometheus/collectors would do the same, and link database/sql, which an agent
// must not.
func registerRuntime(r *prometheus.Registry) {
	//lint:ignore SA1019 see above
	r.MustRegister(prometheus.NewGoCollector())
	//lint:ignore SA1019 see above
	r.MustRegister(prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}))
}

// Metrics returns where parts register their metrics.
func (s *Server) Metrics() prometheus.Registerer {
	if s == nil {
		return nil
	}
	return s.registry
}

// AddLive adds a check to /livez: if it fails the process should be restarted.
func (s *Server) AddLive(c Check) {
	if s != nil {
		s.live = append(s.live, c)
	}
}

// AddReady adds a check to /readyz: if it fails the process cannot do its work
// now.
func (s *Server) AddReady(c Check) {
	if s != nil {
		s.ready = append(s.ready, c)
	}
}

// Start serves until Stop.
func (s *Server) Start(ctx context.Context) error {
	if s.config.Listen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.address = l.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("GET /livez", handleChecks(s.live))
	mux.Handle("GET /readyz", handleChecks(append(slices.Clone(s.ready), s.checkStatuses)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "/livez\n/readyz\n/metrics")
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.group.Go(func(context.Context) error {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("admin: serve %s: %w", s.address, err)
		}
		return nil
	})
	return nil
}

func handleChecks(checks []Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, check := range checks {
			if err := check(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
}

// probeEvery is how long the result of asking all parts is good for /readyz: a
// status may read a store or a table, and probes come as often as others like.
const probeEvery = 10 * time.Second

// probed is the last result of asking all parts.
type probed struct {
	every time.Duration

	mu  sync.Mutex // guards all below; held while the parts are asked
	at  time.Time
	err error
}

// checkStatuses reports the first part that failed, at most probeEvery ago.
func (s *Server) checkStatuses(ctx context.Context) error {
	p := &s.probed
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && time.Since(p.at) < p.every {
		return p.err
	}
	var failed error
	for _, x := range s.Statuses(ctx) {
		if x.Level == Failed {
			failed = fmt.Errorf("%s: %s", x.Part, x.Text)
			break
		}
	}
	if ctx.Err() == nil { // otherwise the parts may have failed because the caller left
		p.at, p.err = time.Now(), failed
	}
	return failed
}

// Address is the address it listens on; empty if none.
func (s *Server) Address() string { return s.address }

// Failed receives the error that ended serving.
func (s *Server) Failed() <-chan error { return s.group.Failed() }

// Stop stops the server.
func (s *Server) Stop(ctx context.Context) error {
	var err error
	if s.server != nil {
		err = s.server.Shutdown(ctx)
	}
	return errors.Join(err, s.group.Stop(ctx))
}
