package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/config"
	"dragnet/node/service"
	"dragnet/node/testify"
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

With the section testify it is also a witness: detectives of the roster may ask
it, within its policy, and 'dragnet question list' shows what they asked.

Other commands read the data directory while it runs: flow list, hunt, backup.`,
		Example: "  dragnet run node --config /etc/dragnet/site.yaml --config /etc/dragnet/node.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(files...)
			if err != nil {
				return cli.Hint(err, "see what is wrong with 'dragnet config check'")
			}
			return runNode(cmd.Context(), c, slog.New(c.Log.Handler(cmd.ErrOrStderr())))
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer")
	return cmd
}

func runNode(ctx context.Context, c config.Configuration, log *slog.Logger) error {
	s, err := service.New(c.Store, log)
	if err != nil {
		return err
	}
	var epochs *testify.Epochs
	if c.Testify.Clearinghouse.URL != "" {
		if epochs, err = testify.OpenEpochs(filepath.Join(c.Store.Directory, "epochs.json")); err != nil {
			return err
		}
		s.UseEpochs(epochs.Name)
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	log.Info("started", "directory", c.Store.Directory, "logs", c.Store.Logs, "listen", s.Address())
	w, err := startWitness(ctx, c, s, epochs, log)
	if err != nil {
		return errors.Join(err, stopAll(s, nil))
	}
	if err := service.Notify("READY=1"); err != nil {
		log.Warn("systemd was not told", "problem", err)
	}
	var failed <-chan error
	if w != nil {
		failed = w.Failed()
	}
	select {
	case <-ctx.Done():
		return errors.Join(service.Notify("STOPPING=1"), stopAll(s, w))
	case err := <-failed:
		return errors.Join(err, stopAll(s, w))
	case err := <-s.Failed():
		return err
	}
}

// startWitness is nil where the configuration lets nobody ask.
func startWitness(ctx context.Context, c config.Configuration, s *service.Service, epochs *testify.Epochs, log *slog.Logger) (*testify.Service, error) {
	if c.Testify.Off() {
		return nil, nil
	}
	w, err := testify.New(c.Testify, testify.Dependencies{
		Site: c.Site, Witness: c.Witness, Log: s.Log(), Directory: c.Store.Directory, Logger: log, Metrics: s.Metrics(), Epochs: epochs,
	})
	if err != nil {
		return nil, err
	}
	if err := w.Start(ctx); err != nil {
		return nil, err
	}
	log.Info("witness", "listen", w.Address(), "relays", len(c.Testify.Relays), "key", w.Key())
	return w, nil
}

func stopAll(s *service.Service, w *testify.Service) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var err error
	if w != nil {
		err = w.Stop(ctx)
	}
	return errors.Join(err, s.Stop(ctx))
}
