package run

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// UntilDone starts a program's part, notifies systemd that it is ready, waits until
// ctx ends or the part fails, and stops it within the given time. It returns the
// error of the failure, and those of starting and stopping.
func UntilDone(ctx context.Context, part Part, within time.Duration, log *slog.Logger) error {
	if err := part.Start(ctx); err != nil {
		return err
	}
	var failed <-chan error
	if f, ok := part.(Failing); ok {
		failed = f.Failed()
	}
	notifySystemd(log, daemon.SdNotifyReady)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	notifySystemd(log, daemon.SdNotifyStopping)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	err = errors.Join(err, part.Stop(stopping))
	log.Info("stopped", "err", err)
	return err
}

// notifySystemd reports the state of the service to systemd (sd_notify(3)); it does
// nothing outside systemd.
func notifySystemd(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("sd_notify failed", "state", state, "err", err)
	}
}
