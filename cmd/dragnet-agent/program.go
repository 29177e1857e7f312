package main

import (
	"github.com/spf13/cobra"

	"dragnet/internal/admin"
	"dragnet/internal/cli"
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
