package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"dragnet/internal/cli"
)

func newManual() *cobra.Command {
	return &cobra.Command{
		Use:     "manual DIR",
		Short:   "Write the manual pages of all commands into a directory",
		Example: "  dragnet manual /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "dragnet " + cli.Release, Manual: "Dragnet"}, args[0]); err != nil {
				return err
			}
			_, err := os.Stat(filepath.Join(args[0], "dragnet.1"))
			return err
		},
	}
}
