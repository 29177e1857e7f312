package outputs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"dragnet/internal/admission"
	"dragnet/publish/lapi"
)

// stalled is how long a reader may take nothing before it is cut off; tests
// shorten it.
var stalled = 20 * time.Second

// connections is how many are open at a time for each request that is answered.
const connections = 8

func (s *Service) serveHTTP(ctx context.Context, mux http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.HTTP.Listen)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	l = admission.Listen(l, connections*s.config.HTTP.Requests)
	if c := &s.config.HTTP; c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	s.web = &http.Server{
		Handler: s.bound(mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ConnContext: admission.ConnContext, ErrorLog: slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
	}
	s.group.Go(func(context.Context) error {
		if err := s.web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.address, err)
		}
		return nil
	})
	return nil
}

// bound limits what readers may cost: requests at a time, and how long one may
// take nothing. Who reads slowly is served. Bouncers with a key have places that
// strangers cannot take.
func (s *Service) bound(inner http.Handler) http.Handler {
	gate := admission.NewGate(admission.Limits{Places: s.config.HTTP.Requests, Reading: 64, Bytes: 64 << 20, Body: lapi.MaxBody, Time: 10 * time.Second})
	patience := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(&patient{ResponseWriter: w, control: http.NewResponseController(w)}, r)
	})
	return gate.Handler(patience, s.callerOf, func(w http.ResponseWriter, _ *http.Request, err error) {
		status := http.StatusBadRequest
		switch {
		case errors.Is(err, admission.ErrTooLarge):
			status = http.StatusRequestEntityTooLarge
		case errors.Is(err, admission.ErrSlow):
			status = http.StatusRequestTimeout
		case errors.Is(err, admission.ErrBusy):
			s.busy.Inc()
			w.Header().Set("Retry-After", "10")
			status = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), status)
	})
}

func (s *Service) callerOf(r *http.Request) admission.Caller {
	if s.lapi != nil {
		if name, ok := s.lapi.Bouncer(r); ok {
			return admission.Caller{Name: "bouncer " + name, Known: true}
		}
	}
	return admission.Address(r)
}

// patient gives the reader time for each piece of the answer.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write implements http.ResponseWriter. Pieces are small, so that a deadline is
// that of a few kilobytes.
func (p *patient) Write(b []byte) (n int, err error) {
	const piece = 64 << 10
	for len(b) > 0 && err == nil {
		if err = p.control.SetWriteDeadline(time.Now().Add(stalled)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return n, err
		}
		var wrote int
		wrote, err = p.ResponseWriter.Write(b[:min(len(b), piece)])
		n, b = n+wrote, b[wrote:]
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }
