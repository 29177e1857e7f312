package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/clearing"
	"dragnet/node/config"
	"dragnet/node/service"
)

func newRunClearinghouse() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "clearinghouse --config FILE...",
		Short: "Serve a community: take reports, publish groups, hand out the roster",
		Long: `Clearinghouse takes reports from the members of its roster, merges them into
groups, and publishes those in batches without telling who contributed what. It
serves the community over TLS 1.3 under the key in its directory, and /livez,
/readyz and /metrics on a loopback port. It looks at the roster's file every few
seconds: sign a new version there, and it holds.

SIGTERM and SIGINT stop it; what it acknowledged is on disk, whatever ends it.`,
		Example: "  dragnet run clearinghouse --config /etc/dragnet/clearinghouse.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(files...)
			if err != nil {
				return cli.Hint(err, "see what is wrong with 'dragnet config check'")
			}
			return runClearinghouse(cmd.Context(), c, slog.New(c.Log.Handler(cmd.ErrOrStderr())))
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer")
	return cmd
}

func runClearinghouse(ctx context.Context, c config.Configuration, log *slog.Logger) error {
	s, err := clearing.New(c.Clearinghouse, clearing.Dependencies{Publication: c.Publication, Logger: log})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	log.Info("started", "listen", s.Address(), "admin", s.AdminAddress(), "key", s.Key().String())
	if err := service.Notify("READY=1"); err != nil {
		log.Warn("systemd was not told", "problem", err)
	}
	select {
	case <-ctx.Done():
		err = service.Notify("STOPPING=1")
	case err = <-s.Failed():
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return errors.Join(err, s.Stop(stopping))
}
