package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/config"
	"dragnet/node/service"
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
		Short: "Follow growing logs into a data directory",
		Long: `Node follows the logs that its configuration names, through growth, rotation and
compression, into its data directory, and keeps that within its bounds. It
serves /livez, /readyz and /metrics on a loopback port. SIGTERM and SIGINT stop
it; whatever ends it, nothing is lost or stored twice.

Other commands read the data directory while it runs: flow list, hunt, backup.`,
		Example: "  dragnet run node --config /etc/dragnet/site.yaml --config /etc/dragnet/node.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(files...)
			if err != nil {
				return cli.Hint(err, "see what is wrong with 'dragnet config check'")
			}
			log := slog.New(c.Log.Handler(cmd.ErrOrStderr()))
			s, err := service.New(c.Store, log)
			if err != nil {
				return err
			}
			if err := s.Start(cmd.Context()); err != nil {
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
			return errors.Join(err, s.Stop(ctx))
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer")
	return cmd
}
