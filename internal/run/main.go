package run

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Program is what a role is told of the program that runs it.
type Program struct {
	// Log is the program's log; Level, if not nil, is set by a reload.
	Log   *slog.Logger
	Level *slog.LevelVar
	// Release and Commit are reported in a metric.
	Release, Commit string
}

// Reloading is a part that takes over a changed configuration.
type Reloading interface {
	Reload(ctx context.Context) error
}

// UntilDone starts a program's part, notifies systemd that it is ready, waits until
// ctx ends or the part fails, and stops it within the given time. It returns the
// error of the failure, and those of starting and stopping. Meanwhile each SIGHUP
// has a Reloading part reload, after Start and before Stop; an error of that is
// logged. Other parts go on, and the log says that they need a restart.
func UntilDone(ctx context.Context, part Part, within time.Duration, log *slog.Logger) error {
	manager := connectSystemd(log)
	defer manager.close()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reloading, ok := part.(Reloading)
	if err := part.Start(ctx); err != nil {
		return err
	}
	var failed <-chan error
	if f, ok := part.(Failing); ok {
		failed = f.Failed()
	}
	manager.notify("READY=1")
	var err error
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case err = <-failed:
			done = true
		case <-hangups:
			if !ok {
				log.Warn("SIGHUP ignored; restart to apply a changed configuration")
			} else if err := reloading.Reload(ctx); err != nil && ctx.Err() == nil {
				log.Error("reload failed; keeping the configuration", "err", err)
			}
		}
	}
	manager.notify("STOPPING=1")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	err = errors.Join(err, part.Stop(stopping))
	if err != nil {
		log.Error("stopped", "err", err)
	} else {
		log.Info("stopped")
	}
	return err
}

// LogRestart logs which changed keys a reload could not apply.
func LogRestart(log *slog.Logger, keys []string) {
	if len(keys) > 0 {
		log.Warn("changed keys need a restart: sockets, interfaces and limits are set up when the role starts", "keys", keys)
	}
}
