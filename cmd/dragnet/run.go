package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/node"
	"dragnet/node/community"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "Run a role until it is stopped", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newRunNode(), newRunClearinghouse())
	return cmd
}

// stopWithin is how long a role may take to commit what it has read.
const stopWithin = time.Minute

// checkHint says how to find all mistakes of a configuration.
const checkHint = "see what is wrong with 'dragnet config check'"

func newRunNode() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "node --config FILE...",
		Short: "Follow growing logs, find scanners, direct the guards at the edges",
		Long: `Node follows the logs that its configuration names ('follow'), through growth,
rotation and compression, and stores their flows in its data directory or a
ClickHouse database ('store'), within its bounds. It serves /livez, /readyz and
/metrics on a loopback port ('admin'), operators on a Unix socket, and agents and
remote operators over TLS if it has an address ('api').

If 'collect' names exporters, it also receives NetFlow version 5 and 9, IPFIX and
sFlow over UDP (ports 2055, 4739 and 6343), and counts and reports what was lost.

It finds scanners among the stored flows ('detection'), accepts the reports of the
guards at the edges ('enforcement'), has blocks judged ('decide': by default a
dry run, after approval), and notifies people ('notify').

If 'witness' has an address or a relay, detectives of the roster may ask it,
within its policy, and 'dragnet question list' shows what they asked.

SIGTERM and SIGINT stop it; however it ends, nothing is lost or stored twice.
SIGHUP reads the files again and applies the rules of the judge with their allow
list, the roster, and the log level; the log names what needs a restart.

Other commands use the data directory while it runs: flow list, hunt, backup,
finding list, decision list, decision stop.`,
		Example: "  dragnet run node --config /etc/dragnet/site.yaml --config /etc/dragnet/node.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRole(cmd, files, "node.yaml", node.DefaultConfiguration(), func(c *node.Configuration) logging.Configuration { return c.Logging },
				func(c node.Configuration, p run.Program) (role[node.Configuration], error) { return node.New(c, p) })
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer (default those of the role in "+packaged+")")
	return cmd
}

func newRunClearinghouse() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "clearinghouse --config FILE...",
		Short: "Serve a community: receive reports, publish groups, serve the roster",
		Long: `Clearinghouse receives reports from the members of its roster, merges them into
groups, and publishes those in batches without saying who contributed what. It
serves the community over TLS 1.3 under the key in its directory, and /livez,
/readyz and /metrics on a loopback port. It reads the roster's file every few
seconds, so that a newly signed version takes effect.

SIGTERM and SIGINT stop it; what it acknowledged is on disk, however it ends.
SIGHUP reads the roster and the log level again.`,
		Example: "  dragnet run clearinghouse --config /etc/dragnet/clearinghouse.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRole(cmd, files, "clearinghouse.yaml", community.DefaultConfiguration(), func(c *community.Configuration) logging.Configuration { return c.Logging },
				func(c community.Configuration, p run.Program) (role[community.Configuration], error) {
					return community.New(c, p)
				})
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer (default those of the role in "+packaged+")")
	return cmd
}

// packaged is where packages put configuration.
const packaged = "/etc/dragnet"

// configurationFiles are the files that were named, or without any the packaged
// ones of a role. A role does not run by its defaults alone: they name nothing
// that is the user's.
func configurationFiles(named []string, role ...string) ([]string, error) {
	if len(named) > 0 {
		return named, nil
	}
	var found []string
	for _, name := range role {
		path := filepath.Join(packaged, name)
		switch _, err := os.Stat(path); {
		case err == nil:
			found = append(found, path)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, cli.Hint(cli.Usage(fmt.Errorf("no configuration: %s has none of %s", packaged, strings.Join(role, ", "))), "name a file with --config; 'dragnet config show' prints one with the defaults")
	}
	return found, nil
}

// role is a role with a configuration of type C.
type role[C any] interface {
	run.Part
	run.Failing
	Reload(ctx context.Context, c C) error
}

// fromFiles is a role whose configuration is read from files, at a reload again.
type fromFiles[C any] struct {
	role[C]
	defaults C
	files    []string
}

// Reload reads the files again.
func (r fromFiles[C]) Reload(ctx context.Context) error {
	c, err := conf.LoadOver(r.defaults, r.files...)
	if err != nil {
		return err
	}
	return r.role.Reload(ctx, c)
}

// runRole runs a role by the files named, or the packaged site.yaml and own file.
func runRole[C any](cmd *cobra.Command, named []string, own string, defaults C, loggingOf func(*C) logging.Configuration, newRole func(C, run.Program) (role[C], error)) error {
	files, err := configurationFiles(named, "site.yaml", own)
	if err != nil {
		return err
	}
	c, err := conf.LoadOver(defaults, files...)
	if err != nil {
		return cli.Hint(err, checkHint)
	}
	log, level := logging.New(loggingOf(&c), cmd.ErrOrStderr())
	v := cli.BuildVersion()
	r, err := newRole(c, run.Program{Log: log, Level: level, Release: v.Release, Commit: v.Commit})
	if err != nil {
		return err
	}
	return run.UntilDone(cmd.Context(), fromFiles[C]{r, defaults, files}, stopWithin, log)
}
