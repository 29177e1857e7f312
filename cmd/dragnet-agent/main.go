// Command dragnet-agent is the part of Dragnet that runs on hosts and in front
// of them: one small static binary, without cgo and without a database, whose
// roles each need only their own privileges.
package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	wire "dragnet/contain/ripcord/bpf"
	"dragnet/internal/cli"
	"dragnet/internal/run"
	"dragnet/trace/kernel"
)

func main() { os.Exit(cli.Main(newRoot())) }

// newRoot adds the commands; each noun has a separate file.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "dragnet-agent",
		Short: "The part of Dragnet that runs on hosts, with privileges",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	root.AddCommand(newRun(), newEnrol(), newToken(), newDoctor(), newRipcord(), newTrap(), cli.NewManual("dragnet-agent", "8"), cli.NewVersion(
		cli.Object{Name: "trace", Hash: kernel.ObjectHash()}, cli.Object{Name: "contain", Hash: wire.ObjectHash()}))
	return root
}

// hinted is a part of a role with what to do when it cannot start.
type hinted struct {
	run.Part
	hint string
}

// Start adds the hint to an error.
func (h hinted) Start(ctx context.Context) error {
	if err := h.Part.Start(ctx); err != nil {
		return cli.Hint(err, "%s", h.hint)
	}
	return nil
}

// Failed is that of the part, if it can fail.
func (h hinted) Failed() <-chan error {
	if f, ok := h.Part.(run.Failing); ok {
		return f.Failed()
	}
	return nil
}

// newRun adds the roles.
func newRun() *cobra.Command {
	run := &cobra.Command{
		Use:   "run",
		Short: "Run a role of the agent until it receives a signal",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	run.AddCommand(newRunIdent(), newRunGuard(), newRunRipcord(), newRunSensor(), newRunTrap())
	return run
}
