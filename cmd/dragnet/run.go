package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dragnet/api"
	"dragnet/internal/cli"
	"dragnet/node/agents"
	"dragnet/node/config"
	"dragnet/node/control"
	"dragnet/node/service"
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
		Short: "Follow growing logs into a store",
		Long: `Node follows the logs that its configuration names, through growth, rotation and
compression, into its data directory or a ClickHouse database, and keeps that
within its bounds. It serves /livez, /readyz and /metrics on a loopback port,
operators on a Unix socket, and agents and operators elsewhere over TLS where it
is told to. SIGTERM and SIGINT stop it; whatever ends it, nothing is lost or
stored twice.

Other commands read the data directory while it runs: flow list, hunt, backup.`,
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
	server  *api.Server
	unwatch context.CancelFunc
}

// handlers are what the node does with the items of agents, by their kind. A
// room that understands one adds it here.
func handlers() map[string]agents.Handler { return map[string]agents.Handler{} }

// startNode starts the parts of a node in the order in which they need each
// other.
func startNode(ctx context.Context, c config.Configuration, log *slog.Logger) (n *node, err error) {
	n = &node{unwatch: func() {}}
	if n.service, err = service.New(c.Store, log); err != nil {
		return nil, err
	}
	if err := n.service.Start(ctx); err != nil {
		return nil, err
	}
	if n.control, err = control.Open(ctx, c.Store.Directory, c.State.Reveal(), handlers(), log); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	if c.API.Socket == "" {
		c.API.Socket = filepath.Join(c.Store.Directory, "node.sock")
	}
	members := n.control.Agents
	if n.server, err = api.New(c.API, api.Dependencies{
		Log: log, TLS: members.Authority().ServerTLS(c.API.ServerNames()), Member: members.Member,
		Services: []api.Service{members.Service(), members.Operators().Service()},
	}); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	if err := n.server.Start(ctx); err != nil {
		return nil, errors.Join(err, n.stop(ctx))
	}
	watched, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	n.unwatch = unwatch
	go members.Watch(watched)
	log.Info("started", "store", clickhouse.Redact(c.Store.Place()), "logs", c.Store.Logs, "listen", n.service.Address(), "socket", n.server.Socket(), "api", n.server.Address())
	return n, nil
}

// stop ends what was started, in the other order.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	n.unwatch()
	if n.server != nil {
		errs = append(errs, n.server.Stop(ctx))
	}
	errs = append(errs, n.service.Stop(ctx))
	if n.control != nil {
		errs = append(errs, n.control.Close())
	}
	return errors.Join(errs...)
}
