package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/reporting/v1/reportingv1connect"
	"dragnet/wire/roster"
)

// startServers answers the community, and this machine on the admin port.
func (s *Service) startServers(ctx context.Context) error {
	config, err := identity.ServerTLS(s.key)
	if err != nil {
		return err
	}
	l, err := listen(s.config.Listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for path, handler := range s.deps.Handlers {
		mux.Handle(path, handler)
	}
	mux.Handle(s.handler())
	s.publicAddress = l.Addr().String()
	s.public = &http.Server{
		Handler: mux, TLSConfig: config,
		// Long enough for 8 MB over a slow line; who sends slower is cut.
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.running.Go(func() {
		if err := s.public.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", s.publicAddress, err)
		}
	})
	if s.config.Admin == "" {
		return nil
	}
	admin, err := listen(s.config.Admin)
	if err != nil {
		return errors.Join(err, s.public.Close())
	}
	s.adminAddress = admin.Addr().String()
	s.admin = &http.Server{Handler: s.adminHandler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.admin.Serve(admin); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", s.adminAddress, err)
		}
	}()
	return nil
}

// handler bounds what callers may cost: requests of MaxRequest bytes, so many
// at a time, those that write only from members.
func (s *Service) handler() (string, http.Handler) {
	path, inner := reportingv1connect.NewClearinghouseServiceHandler(&methods{s: s, objections: newMinuteLimit(s.config.ObjectionsPerMinute, s.deps.Now)},
		connect.WithReadMaxBytes(reporting.MaxRequest), connect.WithCompression("gzip", nil, nil), connect.WithRecover(s.handlePanic))
	slots := make(chan struct{}, s.config.Requests)
	refuse := connect.NewErrorWriter()
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case reportingv1connect.ClearinghouseServiceSubmitReportsProcedure, reportingv1connect.ClearinghouseServiceWithdrawReportProcedure:
			if err := s.checkMember(r); err != nil {
				s.metrics.refusedCallers.Inc()
				refuse.Write(w, r, connect.NewError(connect.CodePermissionDenied, err))
				return
			}
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			r.Body = http.MaxBytesReader(w, r.Body, reporting.MaxRequest+1<<10)
			inner.ServeHTTP(w, r)
		default:
			s.metrics.busy.Inc()
			refuse.Write(w, r, connect.NewError(connect.CodeUnavailable, errors.New("the clearinghouse is busy; try again")))
		}
	})
}

// checkMember reports whether the caller's key may report, before anything of what
// it sends is read.
func (s *Service) checkMember(r *http.Request) error {
	now := s.deps.Now()
	list, err := s.keeper.Current(now)
	if err != nil {
		return err
	}
	if r.TLS == nil {
		return roster.ErrUnknown
	}
	p, ok := identity.PeerOf(*r.TLS)
	if !ok {
		return roster.ErrUnknown
	}
	_, err = list.May(p.ID(), roster.Report, now)
	return err
}

// handlePanic logs a panic and keeps serving other requests.
func (s *Service) handlePanic(_ context.Context, spec connect.Spec, _ http.Header, problem any) error {
	s.log.Error("panic while serving request", "procedure", spec.Procedure, "err", fmt.Sprint(problem))
	return connect.NewError(connect.CodeInternal, errors.New("the clearinghouse failed on this request"))
}

func (s *Service) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		since := s.deps.Now().Sub(time.Unix(s.lastBatch.Load(), 0))
		if s.lastBatch.Load() != 0 && since > s.deps.Publication.Batch+overdue {
			http.Error(w, fmt.Sprintf("the last batch was published %v ago", since.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		_, err := s.keeper.Current(s.deps.Now())
		if err = errors.Join(err, s.db.Ping(r.Context())); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}
