package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/config"
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

Where 'collect' names exporters it also receives NetFlow version 5 and 9, IPFIX
and sFlow over UDP (ports 2055, 4739 and 6343), and counts and says what of them
was lost.

In what it takes in it looks for scanners ('detect'), hears the guards at the
edges ('station'), has blocks judged ('decide': by default a dry run, after
approval), and tells people ('notify').

With the section testify it is also a witness: detectives of the roster may ask
it, within its policy, and 'dragnet question list' shows what they asked.

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
			if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
				log.Warn("sd_notify failed", "err", err)
			}
			select {
			case <-cmd.Context().Done():
			case err := <-n.service.Failed():
				return err
			case err = <-n.testifying():
			}
			_, notifyErr := daemon.SdNotify(false, daemon.SdNotifyStopping)
			err = errors.Join(err, notifyErr)
			ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
			defer cancel()
			return errors.Join(err, n.stop(ctx))
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer")
	return cmd
}
