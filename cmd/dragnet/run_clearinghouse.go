package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"dragnet/ask/relay"
	"dragnet/clearinghouse/server"
	"dragnet/internal/cli"
	"dragnet/internal/state"
	"dragnet/node/config"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
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
	deps := server.Dependencies{Publication: c.Publication, Logger: log, Handlers: map[string]http.Handler{}}
	var s *server.Service
	r, err := openRelay(ctx, c, func(p identity.Public) bool { return s.May(p.ID(), roster.Ask) })
	if err != nil {
		return err
	}
	defer r.close()
	if r != nil {
		path, handler := r.service.Handler()
		deps.Handlers[path] = handler
	}
	if s, err = server.New(c.Clearinghouse, deps); err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	log.Info("started", "listen", s.Address(), "admin", s.AdminAddress(), "key", s.Key().String(), "relay", r != nil)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("sd_notify failed", "err", err)
	}
	select {
	case <-ctx.Done():
		_, err = daemon.SdNotify(false, daemon.SdNotifyStopping)
	case err = <-s.Failed():
	case err = <-r.run(ctx):
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return errors.Join(err, s.Stop(stopping))
}

// relayPart is the relay of a clearinghouse; nil if it serves none.
type relayPart struct {
	db      *state.DB
	service *relay.Service
}

func openRelay(ctx context.Context, c config.Configuration, detective func(identity.Public) bool) (*relayPart, error) {
	if !c.Relay.Serve {
		return nil, nil
	}
	// Messages are large and short-lived: they have a separate file.
	address := c.Clearinghouse.State
	if !strings.Contains(address, "://") {
		address = filepath.Join(c.Clearinghouse.Directory, "board.db")
	}
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	mailboxes, err := relay.NewMailboxes(ctx, db, c.Relay)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &relayPart{db, relay.NewService(mailboxes, detective)}, nil
}

// sweepEvery is how often expired messages are deleted.
const sweepEvery = time.Minute

// run returns the error that ended the relay.
func (r *relayPart) run(ctx context.Context) <-chan error {
	if r == nil {
		return nil
	}
	failed := make(chan error, 1)
	go func() {
		if err := r.service.Run(ctx, sweepEvery); err != nil {
			failed <- err
		}
	}()
	return failed
}

func (r *relayPart) close() {
	if r != nil {
		r.db.Close()
	}
}
