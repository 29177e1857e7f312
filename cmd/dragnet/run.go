package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/config"
	"dragnet/node/docket"
	"dragnet/node/notify"
	"dragnet/node/response"
	"dragnet/node/service"
	"dragnet/node/watch"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "Run a role until it is stopped", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newRunNode())
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
compression, into its data directory, and keeps that within its bounds. It
serves /livez, /readyz and /metrics on a loopback port. SIGTERM and SIGINT stop
it; whatever ends it, nothing is lost or stored twice.

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
			s, parts, err := newNode(cmd.Context(), c, log)
			if err != nil {
				return err
			}
			if err := parts.Start(cmd.Context()); err != nil {
				return err
			}
			log.Info("started", "directory", c.Store.Directory, "logs", c.Store.Logs, "listen", s.Address())
			if err := service.Notify("READY=1"); err != nil {
				log.Warn("systemd was not told", "problem", err)
			}
			select {
			case <-cmd.Context().Done():
			case err := <-s.Failed():
				return err
			}
			err = service.Notify("STOPPING=1")
			ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
			defer cancel()
			return errors.Join(err, parts.Stop(ctx))
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer")
	return cmd
}

// newNode joins what a node is made of.
func newNode(ctx context.Context, c config.Configuration, log *slog.Logger) (*service.Service, service.Parts, error) {
	s, err := service.New(c.Store, log)
	if err != nil {
		return nil, nil, err
	}
	book, err := docket.OpenIn(ctx, c.Store.Directory)
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*service.Service, service.Parts, error) {
		return nil, nil, errors.Join(err, book.Close())
	}
	if err := book.Configure(ctx, now(), c.Decide, "configuration"); err != nil {
		return fail(err)
	}
	notifier, err := notify.New(c.Notify, log, s.Registry())
	if err != nil {
		return fail(err)
	}
	desk, err := response.New(c.Station, book, log, s.Registry(), notifier.Tell)
	if err != nil {
		return fail(err)
	}
	found := func(f dossier.Finding) {
		notifier.Tell(response.Notice{Time: now(), Kind: "finding", Text: f.Summary, Finding: &f})
	}
	if s.Watcher, err = watch.New(c.Detect, c.Site, book, log, s.Registry(), found, desk.Propose); err != nil {
		return fail(err)
	}
	return s, service.Parts{closing{book}, notifier, desk, s}, nil
}

// closing is a part that was opened before and is closed last.
type closing struct{ *docket.Docket }

func (closing) Start(context.Context) error  { return nil }
func (c closing) Stop(context.Context) error { return c.Close() }
