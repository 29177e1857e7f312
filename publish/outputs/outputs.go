package outputs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/metric"
	"dragnet/internal/run"
	"dragnet/publish"
	"dragnet/publish/blocklist"
	"dragnet/publish/dnsbl"
	"dragnet/publish/intel"
	"dragnet/publish/iprep"
	"dragnet/publish/lapi"
	"dragnet/publish/mirror"
	"dragnet/publish/misp"
	"dragnet/publish/notice"
	"dragnet/publish/ocsf"
	"dragnet/publish/pointer"
	"dragnet/publish/queryapi"
	"dragnet/publish/taxii"
	"dragnet/wire/identity"
)

// Dependencies of the outputs.
type Dependencies struct {
	// Source is what is published.
	Source publish.Source
	// Allow is what no output ever shows.
	Allow *flow.AllowList
	// Key gives the key that signs, once the outputs start.
	Key func() *identity.Key
	// Every is how often Refresh is expected at least.
	Every time.Duration
	Log   *slog.Logger
	// Admin gets the metrics and a health check; it may be nil.
	Admin *admin.Server
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Service is the running outputs. Start and Stop are for one goroutine.
type Service struct {
	config Configuration
	deps   Dependencies
	group  *run.Group
	feed   *publish.Feed
	due    chan struct{}

	tree    *mirror.Tree
	lapi    *lapi.Server
	dns     *dnsbl.Server
	taxii   *taxii.Server
	notices *notice.Writer
	pointer *pointer.Publisher
	web     *http.Server
	// address is where HTTP is served.
	address string

	rows, withheld, refreshed prometheus.Gauge
	pointed                   prometheus.Gauge
	failures, busy            prometheus.Counter
	// last is when all outputs last followed, in Unix seconds.
	last atomic.Int64
}

// New makes the outputs; Start starts them.
func New(c Configuration, d Dependencies) (*Service, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Service{config: c, deps: d, group: run.NewGroup(), due: make(chan struct{}, 1)}
	var err error
	if s.feed, err = publish.NewFeed(c.Feed, d.Source, d.Allow, d.Now); err != nil {
		return nil, err
	}
	m := metric.Under(d.Admin.Metrics(), "dragnet_publish_")
	s.rows = m.Gauge("entries", "Entries that the outputs show.")
	s.withheld = m.Gauge("withheld_entries", "Entries that the allow list holds back.")
	s.refreshed = m.Gauge("refreshed_timestamp_seconds", "When all outputs last followed.")
	s.pointed = m.Gauge("pointer_nodes", "Nodes of the distributed hash table that took the newest item.")
	s.failures = m.Counter("failures_total", "Failures of an output to follow.")
	s.busy = m.Counter("busy_total", "HTTP requests turned away since too many were being answered.")
	d.Admin.AddReady(s.checkReady)
	return s, nil
}

// Start makes the outputs follow for the first time, and serves them.
func (s *Service) Start(ctx context.Context) (err error) {
	c := &s.config
	if c.Mirror.Directory != "" {
		if s.tree, err = mirror.NewTree(c.Mirror, s.deps.Key(), s.deps.Every, s.files()...); err != nil {
			return err
		}
	}
	if c.DNSBL.Listen != "" {
		d := c.DNSBL
		d.Objections = c.Objections
		if s.dns, err = dnsbl.New(d, dnsbl.Dependencies{Log: s.deps.Log, Now: s.deps.Now}); err != nil {
			return err
		}
	}
	if c.Notice.Directory != "" {
		if s.notices, err = notice.New(c.Notice, c.Objections); err != nil {
			return err
		}
	}
	if !c.Pointer.Off() {
		s.pointer = pointer.New(c.Pointer, pointer.Dependencies{Key: s.deps.Key(), Log: s.deps.Log, Nodes: s.pointed})
	}
	mux := http.NewServeMux()
	if err := s.addHandlers(mux); err != nil {
		return err
	}
	if err := s.follow(ctx); err != nil {
		return err
	}
	if s.dns != nil {
		if err := s.dns.Start(ctx); err != nil {
			return err
		}
	}
	if s.pointer != nil {
		if err := s.pointer.Start(ctx); err != nil {
			return errors.Join(err, s.Stop(ctx))
		}
	}
	if c.HTTP.Listen != "" {
		if err := s.serveHTTP(ctx, mux); err != nil {
			return errors.Join(err, s.Stop(ctx))
		}
	}
	s.group.Go(s.followOn)
	return nil
}

// files are the formats of the mirror besides its own.
func (s *Service) files() []publish.Files {
	c := &s.config
	var all []publish.Files
	if c.Block.MinConfidence > 0 {
		all = append(all, blocklist.Files(c.Block.MinConfidence))
	}
	if least := c.Sensors.MinConfidence; least > 0 {
		all = append(all, intel.Files(least, c.Objections), iprep.Files(least))
	}
	if c.OCSF.Serve {
		all = append(all, ocsf.Files)
	}
	if c.MISP.Organisation != "" {
		all = append(all, misp.Files(c.MISP, s.deps.Key().Public().String()))
	}
	if c.DNSBL.Zone != "" {
		d := c.DNSBL
		d.Objections = c.Objections
		all = append(all, dnsbl.Files(d))
	}
	return all
}

func (s *Service) addHandlers(mux *http.ServeMux) error {
	c := &s.config
	if s.tree != nil {
		mux.Handle("/mirror/", http.StripPrefix("/mirror", s.tree.Handler()))
	}
	secret, err := s.deps.Key().Sign("dragnet cursor secret 1", nil)
	if err != nil {
		return err
	}
	cursors := publish.NewCursors(secret)
	if c.Query.Serve {
		mux.Handle(queryapi.Prefix, queryapi.New(s.feed, cursors))
	}
	if c.TAXII.Title != "" {
		s.taxii = taxii.New(c.TAXII, s.deps.Key().Public().String(), c.Objections, cursors, s.feed.Now)
		mux.Handle(taxii.Discovery, s.taxii)
	}
	if c.LAPI.MinConfidence > 0 {
		keys, err := lapi.OpenKeys(c.LAPI.Keys)
		if err != nil {
			return err
		}
		s.lapi = lapi.New(keys, s.feed.Now)
		mux.Handle("/v1/", s.lapi)
	}
	return nil
}

// Refresh asks the outputs to follow soon: it is called after each batch.
func (s *Service) Refresh() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// followOn follows when asked to. A failure is tried again after a minute.
func (s *Service) followOn(ctx context.Context) error {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.due:
		case <-again:
		}
		again = nil
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			s.failures.Inc()
			s.deps.Log.Error("update output failed; trying again in a minute", "err", err)
			again = time.After(time.Minute)
		}
	}
}

// follow makes the next view and hands it to every output. One that fails does
// not hold up the others.
func (s *Service) follow(ctx context.Context) error {
	v, err := s.feed.Refresh(ctx)
	if err != nil {
		return err
	}
	// Bouncers and name servers come first: they block.
	if s.lapi != nil {
		s.lapi.Update(lapi.FromView(v, s.config.LAPI.MinConfidence))
	}
	if s.dns != nil {
		s.dns.Update(v)
	}
	var beside sync.WaitGroup
	if s.taxii != nil {
		beside.Go(func() { s.taxii.Update(v) })
	}
	if s.tree != nil {
		var m *mirror.Manifest
		if m, err = s.tree.Publish(v); err == nil && s.pointer != nil {
			s.pointer.Update(&m.Head)
		}
	}
	if s.notices != nil {
		err = errors.Join(err, s.notices.Write(v))
	}
	beside.Wait()
	s.rows.Set(float64(len(v.Rows)))
	s.withheld.Set(float64(len(v.Withheld)))
	if err == nil {
		s.last.Store(s.deps.Now().Unix())
		s.refreshed.Set(float64(s.last.Load()))
	}
	return err
}

func (s *Service) checkReady(context.Context) error {
	last := time.Unix(s.last.Load(), 0)
	if late := s.deps.Now().Sub(last); s.last.Load() != 0 && late > 2*s.deps.Every+5*time.Minute {
		return fmt.Errorf("the outputs last followed %v ago", late.Round(time.Second))
	}
	return nil
}

// Failed receives the error that ended the outputs.
func (s *Service) Failed() <-chan error { return s.group.Failed() }

// Address is where HTTP is served, DNSAddress where DNS is; empty for nowhere.
func (s *Service) Address() string { return s.address }

// DNSAddress is where DNS is served.
func (s *Service) DNSAddress() string {
	if s.dns == nil {
		return ""
	}
	return s.dns.Address()
}

// Stop ends what is being answered, no later than ctx.
func (s *Service) Stop(ctx context.Context) error {
	var err error
	if s.web != nil {
		if err = s.web.Shutdown(ctx); err != nil {
			err = errors.Join(err, s.web.Close())
		}
	}
	if s.dns != nil {
		err = errors.Join(err, s.dns.Stop(ctx))
	}
	if s.pointer != nil {
		err = errors.Join(err, s.pointer.Stop(ctx))
	}
	return errors.Join(err, s.group.Stop(ctx))
}
