package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"dragnet/internal/admission"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/reporting/v1/reportingv1connect"
	"dragnet/wire/roster"
)

// maxConnections bounds those that are open, about 50 kB each.
const maxConnections = 4096

// startServer answers the community.
func (s *Service) startServer() error {
	config, err := identity.ServerTLS(s.key)
	if err != nil {
		return err
	}
	inner, err := listen(s.config.Listen)
	if err != nil {
		return err
	}
	l := admission.Listen(inner, maxConnections)
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
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ConnContext: admission.ConnContext,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.group.Go(func(context.Context) error {
		if err := s.public.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.publicAddress, err)
		}
		return nil
	})
	return nil
}

// handler bounds what callers may cost: requests of MaxRequest bytes, read before
// one of the places is taken, which are shared out among members and strangers;
// those that write only from members.
func (s *Service) handler() (string, http.Handler) {
	path, inner := reportingv1connect.NewClearinghouseServiceHandler(&methods{s: s, objections: newMinuteLimit(s.config.ObjectionsPerMinute, s.deps.Now)},
		connect.WithReadMaxBytes(reporting.MaxRequest), connect.WithCompression("gzip", nil, nil), connect.WithRecover(s.handlePanic))
	gate := admission.NewGate(admission.Limits{
		Places: s.config.Requests, Reading: 8, Bytes: int64(max(s.config.Requests, 32)) * reporting.MaxRequest, Body: reporting.MaxRequest + 1<<10, Time: 30 * time.Second,
	})
	refuse := connect.NewErrorWriter()
	admitted := gate.Handler(inner, s.callerOf, func(w http.ResponseWriter, r *http.Request, err error) {
		code := connect.CodeUnavailable
		if errors.Is(err, admission.ErrTooLarge) {
			code = connect.CodeResourceExhausted
		} else {
			s.metrics.busy.Inc()
			err = fmt.Errorf("the clearinghouse did not take the request: %w", err)
		}
		refuse.Write(w, r, connect.NewError(code, err))
	})
	return path, exchange.WithPeer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case reportingv1connect.ClearinghouseServiceSubmitReportsProcedure, reportingv1connect.ClearinghouseServiceWithdrawReportProcedure, reportingv1connect.ClearinghouseServiceCosignHeadProcedure:
			role := roster.Report
			if r.URL.Path == reportingv1connect.ClearinghouseServiceCosignHeadProcedure {
				role = 0 // any member's
			}
			if _, err := s.findCaller(r, role); err != nil {
				s.metrics.refusedCallers.Inc()
				refuse.Write(w, r, connect.NewError(connect.CodePermissionDenied, err))
				return
			}
		}
		admitted.ServeHTTP(w, r)
	}))
}

// callerOf counts a member's requests for its organisation, others for their address.
func (s *Service) callerOf(r *http.Request) admission.Caller {
	if m, err := s.findCaller(r, 0); err == nil {
		return admission.Caller{Name: m.Class, Known: true}
	}
	return admission.Address(r)
}

// findCaller finds the member whose key the caller holds and who has the role now. It
// reads nothing of what the caller sends.
func (s *Service) findCaller(r *http.Request, role roster.Role) (*roster.Member, error) {
	now := s.deps.Now()
	list, err := s.keeper.Current(now)
	if err != nil {
		return nil, err
	}
	if r.TLS == nil {
		return nil, roster.ErrUnknown
	}
	p, ok := identity.PeerOf(*r.TLS)
	if !ok {
		return nil, roster.ErrUnknown
	}
	m, err := list.May(p.ID(), role, now)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// handlePanic logs a panic and keeps serving other requests.
func (s *Service) handlePanic(_ context.Context, spec connect.Spec, _ http.Header, problem any) error {
	s.log.Error("panic while serving request", "procedure", spec.Procedure, "err", fmt.Sprint(problem))
	return connect.NewError(connect.CodeInternal, errors.New("the clearinghouse failed on this request"))
}

// checkLive reports that no batch was published for too long.
func (s *Service) checkLive(context.Context) error {
	since := s.deps.Now().Sub(time.Unix(s.lastBatch.Load(), 0))
	if s.lastBatch.Load() != 0 && since > s.deps.Publication.Batch+overdue {
		return fmt.Errorf("no batch was published for %v", since.Round(time.Second))
	}
	return nil
}

// checkReady reports that there is no valid roster, or no database.
func (s *Service) checkReady(ctx context.Context) error {
	if s.keeper == nil {
		return errors.New("starting")
	}
	_, err := s.keeper.Current(s.deps.Now())
	return errors.Join(err, s.deps.DB.Ping(ctx))
}
