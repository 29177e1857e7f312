package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"dragnet/internal/admin"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/run"
)

// newProgram returns what a role needs of this program: its log on standard
// error, and its version.
func newProgram(cmd *cobra.Command, c logging.Configuration) run.Program {
	log, level := logging.New(c, cmd.ErrOrStderr())
	v := cli.BuildVersion()
	return run.Program{Log: log, Level: level, Release: v.Release, Commit: v.Commit}
}

// newAdmin makes the server of a role's health checks and metrics.
func newAdmin(c admin.Configuration, p run.Program) (*admin.Server, error) {
	return admin.New(c, p.Release, p.Commit, logging.Component(p.Log, "admin"))
}

// reloadable is a role that applies changed files at SIGHUP: the log level, and
// what apply sets.
type reloadable[C any] struct {
	run.Parts
	program run.Program
	// started is the configuration that the role was started with.
	started C
	load    func() (C, error)
	// logging returns the log's section.
	logging func(*C) *logging.Configuration
	// apply may be nil; applied are the keys that it takes over.
	apply   func(context.Context, *C) error
	applied []string
}

// Reload reads the files again. Nothing changes if one is invalid.
func (r *reloadable[C]) Reload(ctx context.Context) error {
	c, err := r.load()
	if err != nil {
		return err
	}
	if r.apply != nil {
		if err := r.apply(ctx, &c); err != nil {
			return err
		}
	}
	level := r.logging(&c).Level
	r.program.Level.Set(level)
	r.program.Log.Info("configuration reloaded", "applied", append([]string{"logging.level"}, r.applied...), "level", level)
	run.LogRestart(r.program.Log, slices.DeleteFunc(conf.ChangedKeys(r.started, c), func(key string) bool {
		return key == "logging.level" || slices.Contains(r.applied, key)
	}))
	return nil
}
