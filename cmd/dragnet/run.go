package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dragnet/api"
	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/agents"
	"dragnet/node/config"
	"dragnet/node/control"
	"dragnet/node/docket"
	"dragnet/node/flows"
	"dragnet/node/hunt"
	"dragnet/node/notify"
	"dragnet/node/response"
	"dragnet/node/service"
	"dragnet/node/watch"
	"dragnet/store/clickhouse"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "Run a role until it is stopped", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newRunNode(), newRunClearinghouse())
	return cmd
}

// stopWithin is how long a node may take to commit what it has read.
const stopWithin = time.Minute

func newRunNode() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "node --config FILE...",
		Short: "Follow growing logs, look for scanners, direct the guards at the edges",
		Long: `Node follows the logs that its configuration names, through growth, rotation and
compression, into its data directory or a ClickHouse database, and keeps that
within its bounds. It serves /livez, /readyz and /metrics on a loopback port,
operators on a Unix socket, and agents and operators elsewhere over TLS where it
is told to. SIGTERM and SIGINT stop it; whatever ends it, nothing is lost or
stored twice.

In what it takes in it looks for scanners ('detect'), hears the guards at the
edges ('station'), has blocks judged ('decide': by default a dry run, after
approval), and tells people ('notify').

Other commands use the data directory while it runs: flow list, hunt, backup,
finding list, decision list, decision stop.`,
		Example: "  dragnet run node --config /etc/dragnet/site.yaml --config /etc/dragnet/node.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(files...)
			if err != nil {
				return cli.Hint(err, "see what is wrong with 'dragnet config check'")
			}
			log := slog.New(c.Log.Handler(cmd.ErrOrStderr()))
			n, err := startNode(cmd.Context(), c, log)
			if err != nil {
				return err
			}
			if err := service.Notify("READY=1"); err != nil {
				log.Warn("systemd was not told", "problem", err)
			}
			select {
			case <-cmd.Context().Done():
			case err := <-n.service.Failed():
				return err
			}
			err = service.Notify("STOPPING=1")
			ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
			defer cancel()
			return errors.Join(err, n.stop(ctx))
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer")
	return cmd
}

// node is a running node.
type node struct {
	service *service.Service
	control *control.Control
	desk    service.Parts // what acts on findings and reports
	server  *api.Server
	unwatch context.CancelFunc
	log     *slog.Logger
}

// readersAtOnce bounds the requests that read flows at a time, each of which may
// use all cores.
const readersAtOnce = 2

// readers are the services that read what the node keeps.
func readers(c config.Configuration) []api.Service {
	gate, open := api.NewGate(readersAtOnce), flows.In(c.Store.Place())
	own := hunt.Configuration{Witness: c.Witness, Silent: c.Site.Silent}
	return []api.Service{
		flows.NewServer(open, gate).Service(),
		flows.NewStoreServer(c.Store.Place(), gate).Service(),
		hunt.NewServer(own, open, gate).Service(),
	}
}

// startNode starts the parts of a node in the order in which they need each
// other.
func startNode(ctx context.Context, c config.Configuration, log *slog.Logger) (n *node, err error) {
	n = &node{unwatch: func() {}, log: log}
	s, err := service.New(c.Store, log)
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
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	n.service = s
	if err := n.serve(ctx, c); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	log.Info("started", "store", clickhouse.Redact(c.Store.Place()), "logs", c.Store.Logs, "listen", n.service.Address(), "socket", n.server.Socket(), "api", n.server.Address())
	return n, nil
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
// service takes in, the station, the judge's docket, and who is told.
func newDesk(ctx context.Context, c config.Configuration, s *service.Service, state *control.Control, handlers map[string]agents.Handler, log *slog.Logger) (service.Parts, error) {
	book, err := docket.New(ctx, state.DB)
	if err != nil {
		return nil, err
	}
	if err := book.Configure(ctx, now(), c.Decide, "configuration"); err != nil {
		return nil, err
	}
	notifier, err := notify.New(c.Notify, log, s.Registry())
	if err != nil {
		return nil, err
	}
	desk, err := response.New(c.Station, book, log, s.Registry(), notifier.Tell)
	if err != nil {
		return nil, err
	}
	desk.Documents = state.Agents
	maps.Copy(handlers, desk.Handlers())
	found := func(f dossier.Finding) {
		notifier.Tell(response.Notice{Time: now(), Kind: "finding", Text: f.Summary, Finding: &f})
	}
	s.Watcher, err = watch.New(c.Detect, c.Site, book, log, s.Registry(), found, desk.Propose)
	return service.Parts{notifier, desk}, err
}

// stop ends what was started, in the other order.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	n.unwatch()
	if n.server != nil {
		errs = append(errs, n.server.Stop(ctx))
	}
	if n.service != nil {
		errs = append(errs, n.service.Stop(ctx))
	}
	errs = append(errs, n.desk.Stop(ctx), n.control.Close())
	return errors.Join(errs...)
}
