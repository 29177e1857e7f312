package outputs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// stalled is how long a reader may take nothing before it is cut off; tests
// shorten it.
var stalled = 20 * time.Second

func (s *Service) serveHTTP(ctx context.Context, mux http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.HTTP.Listen)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	if c := &s.config.HTTP; c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	s.web = &http.Server{
		Handler: s.bound(mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
	}
	s.group.Go(func(context.Context) error {
		if err := s.web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.address, err)
		}
		return nil
	})
	return nil
}

// bound limits what readers may cost: requests at a time, in all and of one
// address, and how long one may take nothing. Who reads slowly is served.
func (s *Service) bound(inner http.Handler) http.Handler {
	all := &slots{limit: s.config.HTTP.Requests, per: s.config.HTTP.PerAddress, taken: map[string]int{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			address = r.RemoteAddr
		}
		if !all.take(address) {
			s.busy.Inc()
			w.Header().Set("Retry-After", "10")
			http.Error(w, "busy; try again", http.StatusServiceUnavailable)
			return
		}
		defer all.give(address)
		inner.ServeHTTP(&patient{ResponseWriter: w, control: http.NewResponseController(w)}, r)
	})
}

type slots struct {
	limit, per int

	mu    sync.Mutex
	all   int
	taken map[string]int
}

func (s *slots) take(address string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.limit || s.taken[address] >= s.per {
		return false
	}
	s.all++
	s.taken[address]++
	return true
}

func (s *slots) give(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.taken[address]--; s.taken[address] == 0 {
		delete(s.taken, address)
	}
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
