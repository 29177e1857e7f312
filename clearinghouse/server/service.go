package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"dragnet/clearinghouse"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// Dependencies are what a Service works with.
type Dependencies struct {
	Publication clearinghouse.Configuration
	Logger      *slog.Logger
	// DB is the database of Configuration.Database, open by Start.
	DB *state.DB
	// Allow are hosts about which no report is published; nil is the list that
	// everybody has.
	Allow *flow.AllowList
	// Admin gets the metrics and health checks; it may be nil.
	Admin *admin.Server
	// Handlers are served beside the clearinghouse's own, by path: a relay's,
	// for example.
	Handlers map[string]http.Handler
	// Published, if not nil, is called after each batch.
	Published func()
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Service is a running clearinghouse. Start and Stop are for one goroutine.
type Service struct {
	config  Configuration
	deps    Dependencies
	log     *slog.Logger
	metrics *metrics

	group *run.Group

	key    *identity.Key
	keeper *roster.Keeper
	core   *clearinghouse.Core

	public        *http.Server
	publicAddress string
	// lastBatch is when the last batch was published, or the service started, in Unix
	// seconds.
	lastBatch atomic.Int64
	soon      chan struct{} // asks for a batch before its time
	reload    chan struct{} // asks for a look at the roster before its time
}

// New makes a service; Start starts it.
func New(config Configuration, deps Dependencies) (*Service, error) {
	if err := errors.Join(config.Validate(), deps.Publication.Validate()); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Service{config: config, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Admin.Metrics()), group: run.NewGroup(), soon: make(chan struct{}, 1), reload: make(chan struct{}, 1)}
	deps.Admin.AddLive(s.checkLive)
	deps.Admin.AddReady(s.checkReady)
	return s, nil
}

// Start takes the roster over, publishes what is due, and serves.
func (s *Service) Start(ctx context.Context) (err error) {
	if s.config.Listen == "" {
		return errors.New("listen names no address")
	}
	if err := os.MkdirAll(s.config.Directory, 0o700); err != nil {
		return err
	}
	if s.key, err = identity.LoadOrCreate(s.config.KeyPath()); err != nil {
		return err
	}
	signer, err := s.config.signer(s.key.Public())
	if err != nil {
		return err
	}
	if s.keeper, err = roster.NewKeeper(signer, roster.File(s.config.heldPath())); err != nil {
		return err
	}
	s.core, err = clearinghouse.New(s.deps.Publication, clearinghouse.Dependencies{
		DB: s.deps.DB, Roster: s.keeper, Own: []identity.ID{s.key.ID()}, Allow: s.deps.Allow, Now: s.deps.Now,
	})
	if err != nil {
		return err
	}
	if err := s.core.Start(ctx); err != nil {
		return err
	}
	if err := s.startServer(); err != nil {
		return errors.Join(err, s.core.Stop(ctx))
	}
	s.lastBatch.Store(s.deps.Now().Unix()) // from now on one is due
	s.group.GoWithoutError(s.followRoster)
	s.group.GoWithoutError(s.publish)
	return nil
}

// Failed receives the error that ended the service.
func (s *Service) Failed() <-chan error { return s.group.Failed() }

// Address is where the community is served.
func (s *Service) Address() string { return s.publicAddress }

// Member finds the member that holds a key and has the role, by the roster that
// holds now.
func (s *Service) Member(id identity.ID, role roster.Role) (*roster.Member, error) {
	now := s.deps.Now()
	list, err := s.keeper.Current(now)
	if err != nil {
		return nil, err
	}
	return list.May(id, role, now)
}

// Key is the public key that answers.
func (s *Service) Key() identity.Public { return s.key.Public() }

// SigningKey is the key that answers; for what is published under it.
func (s *Service) SigningKey() *identity.Key { return s.key }

// Core is what the service serves, from Start on.
func (s *Service) Core() *clearinghouse.Core { return s.core }

// Stop ends what is being answered, then waits for the disk, no longer than
// ctx.
func (s *Service) Stop(ctx context.Context) error {
	err := s.public.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.public.Close())
	}
	err = errors.Join(err, s.group.Stop(ctx))
	return errors.Join(err, s.core.Stop(ctx))
}

// ReloadRoster looks at the roster's file again, which is otherwise done every
// few seconds.
func (s *Service) ReloadRoster() {
	select {
	case s.reload <- struct{}{}:
	default:
	}
}

// followRoster takes over each new roster and voids what revoked keys reported.
func (s *Service) followRoster(ctx context.Context) {
	tick := time.NewTicker(rosterEvery)
	defer tick.Stop()
	var version uint64
	complaint := ""
	for {
		err := s.checkRoster(ctx, &version)
		switch {
		case err == nil:
			complaint = ""
		case err.Error() != complaint: // once, not every few seconds
			complaint = err.Error()
			s.log.Error("roster rejected", "file", s.config.RosterPath(), "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.reload:
		}
	}
}

func (s *Service) checkRoster(ctx context.Context, version *uint64) error {
	now := s.deps.Now()
	data, err := readBounded(s.config.RosterPath(), roster.MaxBundle)
	if errors.Is(err, fs.ErrNotExist) && s.keeper.Bundle() != nil {
		err = nil // the one held goes on to hold
	} else if err == nil && string(data) != string(s.keeper.Bundle()) {
		_, err = s.keeper.Accept(data, now)
	}
	list, held := s.keeper.Current(now)
	if held != nil {
		return errors.Join(err, held)
	}
	if list.Version == *version {
		return err
	}
	n, revoked := s.core.Revoke(ctx, list)
	if revoked != nil {
		return errors.Join(err, revoked)
	}
	*version = list.Version
	s.metrics.rosterVersion.Set(float64(list.Version))
	s.metrics.rosterExpires.Set(float64(list.Expires.Unix()))
	s.log.Info("roster accepted", "version", list.Version, "members", len(list.Members), "expires", list.Expires, "reports_voided", n)
	if n > 0 {
		s.publishSoon()
	}
	return err
}

func readBounded(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > int64(limit) {
		return nil, fmt.Errorf("%s has %d bytes; at most %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

func (s *Service) publishSoon() {
	select {
	case s.soon <- struct{}{}:
	default:
	}
}

// A batch that failed is tried again after retryBatch, and every watchBatches the service
// looks whether the operator published one by another program.
const (
	retryBatch   = time.Minute
	watchBatches = 5 * time.Second
)

// publish makes a batch at every multiple of the interval, and when asked to.
func (s *Service) publish(ctx context.Context) {
	every := s.deps.Publication.Batch
	for {
		wait := retryBatch
		if p, err := s.publishBatch(ctx); err == nil {
			now := s.deps.Now()
			s.lastBatch.Store(now.Unix())
			wait = now.Truncate(every).Add(every).Sub(now)
			s.metrics.countPublished(p)
			if s.deps.Published != nil {
				s.deps.Published()
			}
			if p.Listed+p.Updated+p.Removed > 0 {
				s.log.Info("list published", "groups", p.Groups, "entries", p.Entries, "listed", p.Listed, "updated", p.Updated, "removed", p.Removed)
			}
		} else if ctx.Err() == nil {
			s.metrics.failures.Inc()
			s.log.Error("publish list failed", "err", err)
		}
		if !s.waitForBatch(ctx, wait) {
			return
		}
	}
}

// waitForBatch waits until a batch is due or asked for, and hands on those that other
// programs publish meanwhile; false if the service stops.
func (s *Service) waitForBatch(ctx context.Context, wait time.Duration) bool {
	due, watch := time.After(wait), time.NewTicker(watchBatches)
	defer watch.Stop()
	last, _ := s.core.LastBatch(ctx) // 0 if it cannot be read: then one is handed on too often
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.soon:
			return true
		case <-due:
			return true
		case <-watch.C:
		}
		newest, err := s.core.LastBatch(ctx)
		if err != nil || newest == last {
			continue
		}
		last = newest
		s.log.Info("another program published a batch", "number", newest)
		if s.deps.Published != nil {
			s.deps.Published()
		}
	}
}

// publishBatch voids once more what revoked keys reported: a report may have been on
// its way to the disk when its key was revoked.
func (s *Service) publishBatch(ctx context.Context) (p clearinghouse.Published, err error) {
	if list, held := s.keeper.Current(s.deps.Now()); held == nil {
		if _, err := s.core.Revoke(ctx, list); err != nil {
			return p, err
		}
	}
	if p, err = s.core.Publish(ctx); err == nil && p.Damaged > 0 {
		s.log.Error("stored reports are damaged, and were left out; the database needs a check, or a backup", "reports", p.Damaged)
	}
	return p, err
}

// listen binds an address.
func listen(address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
}
