// Package bouncers hands the node's own decisions to bouncers of CrowdSec.
package bouncers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"dragnet/decide/ledger"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/run"
	"dragnet/publish/lapi"
)

// Configuration of the server.
type Configuration struct {
	// Listen is a loopback address such as 127.0.0.1:8480; empty serves no
	// bouncer. For other machines, put a server with TLS in front.
	Listen string `yaml:"listen"`
	// Keys is a file with the name of a bouncer and the SHA-256 of its key on
	// each line ('dragnet feed key').
	Keys string `yaml:"keys"`
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	p.Check(err == nil && ip != nil && ip.IsLoopback(), "listen", "%q is not a loopback address with a port; bouncers send keys", c.Listen)
	p.Check(c.Keys != "", "keys", "is empty; make a file with 'dragnet feed key'")
	return p.Join()
}

// Dependencies of a server.
type Dependencies struct {
	Ledger *ledger.Ledger // of the decisions
	Log    *slog.Logger
}

// every is how often decisions are read: bouncers pull every ten seconds.
const every = 2 * time.Second

// remembered is how long after its end a decision is told as deleted to a
// bouncer whose position we do not know.
const remembered = 24 * time.Hour

// Server serves bouncers. Start and Stop are for one goroutine.
type Server struct {
	config  Configuration
	ledger  *ledger.Ledger
	log     *slog.Logger
	group   *run.Group
	server  *lapi.Server
	web     *http.Server
	address string
}

// New makes a server; Start starts it.
func New(c Configuration, d Dependencies) (*Server, error) {
	return &Server{config: c, ledger: d.Ledger, log: d.Log, group: run.NewGroup()}, c.Validate()
}

func now() flow.Time { return flow.FromTime(time.Now()) }

// Start reads the decisions, and serves them.
func (s *Server) Start(ctx context.Context) error {
	keys, err := lapi.OpenKeys(s.config.Keys)
	if err != nil {
		return err
	}
	s.server = lapi.New(keys, now)
	if err := s.update(ctx); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	s.web = &http.Server{Handler: s.server, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.group.Go(func(context.Context) error {
		if err := s.web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.address, err)
		}
		return nil
	})
	s.group.Go(s.follow)
	return nil
}

func (s *Server) follow(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.update(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("read decisions for bouncers failed", "err", err)
		}
	}
}

func (s *Server) update(ctx context.Context) error {
	all, err := s.ledger.Since(ctx, now()-flow.Time(remembered))
	if err == nil {
		s.server.Update(lapi.FromDecisions(all, now()))
	}
	return err
}

// Address is where bouncers are served.
func (s *Server) Address() string { return s.address }

// Failed receives the error that ended the server.
func (s *Server) Failed() <-chan error { return s.group.Failed() }

// Stop ends what is being answered, no later than ctx.
func (s *Server) Stop(ctx context.Context) error {
	var err error
	if s.web != nil {
		err = s.web.Shutdown(ctx)
	}
	return errors.Join(err, s.group.Stop(ctx))
}
