// Command dragnet finds groups of coordinated attackers across the logs of
// several organisations, without any of them telling the others what it looks
// for. Run "dragnet --help", or "dragnet demo" to see it work.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
)

func main() { os.Exit(cli.Main(newRoot())) }

// newRoot wires the commands; each noun has a file of its own beside this one.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "dragnet",
		Short: "Find coordinated attackers across organisations, without telling what you look for",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	root.AddCommand(
		newDemo(),
		newHunt(),
		newPattern(),
		newConfig(),
		newFlow(),
		newRun(),
		newStore(),
		newBackup(),
		newManual(),
		cli.NewVersion(),
	)
	return root
}
