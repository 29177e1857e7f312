package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"

	"dragnet/ask/witness/endpoint"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/node/agents"
	"dragnet/node/api"
	"dragnet/node/config"
	"dragnet/node/control"
	"dragnet/node/detection"
	"dragnet/node/enforcement"
	"dragnet/node/follow"
	"dragnet/node/hunt"
	"dragnet/node/hunt/witnesses"
	"dragnet/node/notify"
	"dragnet/node/query"
	exporters "dragnet/source/collect"
	"dragnet/store/clickhouse"
)

// node is a running node.
type node struct {
	service *follow.Service
	control *control.Control
	desk    follow.Parts      // what acts on findings and reports
	witness *endpoint.Service // nil where nobody may ask
	server  *api.Server
	unwatch context.CancelFunc
	log     *slog.Logger
}

// readersAtOnce bounds the requests that read flows at a time, each of which may
// use all cores.
const readersAtOnce = 2

// readers are the services that read what the node keeps.
func readers(c config.Configuration) []api.Service {
	gate, open := api.NewGate(readersAtOnce), query.In(c.Store.Place())
	own := hunt.Configuration{Witness: c.Witness, Silent: c.Site.Silent}
	return []api.Service{
		query.NewServer(open, gate).Service(),
		query.NewStoreServer(c.Store.Place(), gate).Service(),
		witnesses.NewServer(own, open, gate).Service(),
	}
}

// startNode starts the parts of a node in the order in which they need each
// other.
func startNode(ctx context.Context, c config.Configuration, log *slog.Logger) (n *node, err error) {
	n = &node{unwatch: func() {}, log: log}
	s, err := follow.New(c.Store, log)
	if err != nil {
		return nil, err
	}
	// A room that understands items of agents adds its handlers here, before
	// the first agent is served.
	handlers := map[string]agents.Handler{}
	if n.control, err = control.Open(ctx, c.Store.Directory, c.State.Reveal(), handlers, log); err != nil {
		return nil, err
	}
	desk, err := newDesk(ctx, c, s, n.control, handlers, log)
	if err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	if err := desk.Start(ctx); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	n.desk = desk
	epochs, err := useEpochs(c, s)
	if err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	if !c.Collect.Off() {
		collector, err := exporters.New(c.Collect, filepath.Join(c.Store.Directory, "templates.json"), log)
		if err != nil {
			return nil, errors.Join(err, n.stop(ctx))
		}
		s.Collect(collector)
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	n.service = s
	if err := n.testify(ctx, c, epochs); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	if err := n.serve(ctx, c); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	log.Info("started", "store", clickhouse.Redact(c.Store.Place()), "logs", c.Store.Logs, "listen", n.service.Address(), "socket", n.server.Socket(), "api", n.server.Address())
	return n, nil
}

// useEpochs has keys computed for the epochs of a community; nil without one.
func useEpochs(c config.Configuration, s *follow.Service) (*endpoint.Epochs, error) {
	if c.Testify.Clearinghouse.URL == "" {
		return nil, nil
	}
	epochs, err := endpoint.OpenEpochs(filepath.Join(c.Store.Directory, "epochs.json"))
	if err == nil {
		s.UseEpochs(epochs.Name)
	}
	return epochs, err
}

// testify begins to answer detectives, where the configuration lets them ask.
func (n *node) testify(ctx context.Context, c config.Configuration, epochs *endpoint.Epochs) error {
	if c.Testify.Off() {
		return nil
	}
	w, err := endpoint.New(c.Testify, endpoint.Dependencies{
		Site: c.Site, Witness: c.Witness, Log: n.service.Log(), Directory: c.Store.Directory, Logger: n.log, Metrics: n.service.Metrics(), Epochs: epochs,
	})
	if err != nil {
		return err
	}
	if err := w.Start(ctx); err != nil {
		return err
	}
	n.witness = w
	n.log.Info("witness", "listen", w.Address(), "relays", len(c.Testify.Relays), "key", w.Key())
	return nil
}

// testifying tells why the witness ended by itself.
func (n *node) testifying() <-chan error {
	if n.witness == nil {
		return nil
	}
	return n.witness.Failed()
}

// serve begins to answer operators and agents.
func (n *node) serve(ctx context.Context, c config.Configuration) (err error) {
	if c.API.Socket == "" {
		c.API.Socket = filepath.Join(c.Store.Directory, "node.sock")
	}
	members := n.control.Agents
	if n.server, err = api.New(c.API, api.Dependencies{
		Log: n.log, TLS: members.Authority().ServerTLS(c.API.ServerNames()), Member: members.Member,
		Services: append(readers(c), members.Service(), members.Operators().Service()),
	}); err != nil {
		return err
	}
	if err := n.server.Start(ctx); err != nil {
		return err
	}
	watched, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	n.unwatch = unwatch
	go members.Watch(watched)
	return nil
}

// newDesk joins what acts on findings and reports: detection in what the
// service takes in, the station, the ledger, and who is notified.
func newDesk(ctx context.Context, c config.Configuration, s *follow.Service, state *control.Control, handlers map[string]agents.Handler, log *slog.Logger) (follow.Parts, error) {
	book, err := ledger.New(ctx, state.DB)
	if err != nil {
		return nil, err
	}
	if err := book.Configure(ctx, now(), c.Decide, "configuration"); err != nil {
		return nil, err
	}
	notifier, err := notify.New(c.Notify, log, s.Metrics())
	if err != nil {
		return nil, err
	}
	desk, err := enforcement.New(c.Station, book, log, s.Metrics(), notifier.Tell)
	if err != nil {
		return nil, err
	}
	desk.Documents = state.Agents
	maps.Copy(handlers, desk.Handlers())
	found := func(f dossier.Finding) {
		notifier.Tell(enforcement.Notice{Time: now(), Kind: "finding", Text: f.Summary, Finding: &f})
	}
	s.Watcher, err = detection.New(c.Detect, c.Site, book, log, s.Metrics(), found, desk.Propose)
	return follow.Parts{notifier, desk}, err
}

// stop ends what was started, in the other order.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	n.unwatch()
	if n.server != nil {
		errs = append(errs, n.server.Stop(ctx))
	}
	if n.witness != nil {
		errs = append(errs, n.witness.Stop(ctx))
	}
	if n.service != nil {
		errs = append(errs, n.service.Stop(ctx))
	}
	errs = append(errs, n.desk.Stop(ctx), n.control.Close())
	return errors.Join(errs...)
}
