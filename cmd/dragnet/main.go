// Command dragnet finds groups of coordinated attackers across the logs of
// several organisations, none of which reveals what it looks for. Run
// "dragnet --help", or "dragnet demo" to see it work.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/lab/incident/play"
)

func main() { os.Exit(cli.Main(newRoot())) }

// newRoot adds the commands; each noun has a separate file.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "dragnet",
		Short: "Find coordinated attackers across organisations without revealing what you look for",
		Long: `Dragnet finds groups of coordinated attackers by asking the logs of several
organisations; no log is handed over. A detective describes what it saw as a
pattern. A witness learns which parts of a flow the pattern fixes, the time
window, and a hash so short that many values share it: not the values. It
returns every flow that fits, sealed under the values of that flow, so that the
detective can open only those it could already describe.

Begin with 'dragnet demo', which plays a recorded incident in a second, then hunt
in your own logs:

  dragnet hunt 'out dst=198.51.100.7 proto=udp dport=69' --witness /var/log/zeek

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found something,
130 interrupted. Results go to stdout, everything else to stderr.`,
		Args: cobra.ArbitraryArgs,
		RunE: cli.Group,

		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return applyContext(cmd) },
	}
	for _, g := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Ask:", []*cobra.Command{play.Command(), newHunt(), newQuestion(), newPattern(), newKey()}},
		{"Detect and trace:", []*cobra.Command{newDetect(), newFinding(), newCoresidence(), newSignature(), newTrace(), newWorm()}},
		{"Decide and contain:", []*cobra.Command{newDecision(), newAllow(), newSwitch()}},
		{"Share:", []*cobra.Command{newReport(), newGroup(), newEntry(), newObjection(), newFeed(), newCommunity(), newRoster()}},
		{"Run a node:", []*cobra.Command{
			newRun(), newStatus(), newSupport(), newConfig(), newFlow(), newSource(), newStore(), newAgent(), newOperator(), newBackup(), newRestore(),
		}},
		{"Other:", []*cobra.Command{newContext(), newReproduce(), cli.NewManual("dragnet", "1"), cli.NewVersion()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range g.commands {
			cmd.GroupID = g.title
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommandGroupID("Other:")
	root.SetCompletionCommandGroupID("Other:")
	return root
}
