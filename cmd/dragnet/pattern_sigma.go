package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"dragnet/dossier/pattern"
	"dragnet/internal/cli"
	"dragnet/publish/sigma"
)

func newPatternSigma() *cobra.Command {
	var read bool
	cmd := &cobra.Command{
		Use:   "sigma PATTERN",
		Short: "Write a pattern as Sigma rules, or read rules as a pattern",
		Long: `Sigma writes a rule over Zeek's log of connections for each clue, and a
correlation of the rules by the host that the pattern leaves open: "and" becomes
temporal, "then" temporal_ordered. With --read it reads such rules from a file,
or from standard input as "-", and prints the pattern.

Sigma cannot express "or" between clues, and limits the time of a sequence only as
a whole: patterns that need more are refused.`,
		Example: "  dragnet pattern sigma 'in src=203.0.113.5 dport=1433 then[1h] out dst=198.51.100.7 dport=69' > rules.yml\n  dragnet pattern sigma --read rules.yml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if read {
				return readSigma(cmd, args[0])
			}
			p, err := pattern.Parse(args[0], pattern.FromDisk)
			if err != nil {
				return cli.Hint(cli.Usage(err), "see 'dragnet pattern explain --help' for the language of patterns")
			}
			return sigma.Write(cmd.OutOrStdout(), p)
		},
	}
	cmd.Flags().BoolVar(&read, "read", false, "read rules from the file named, and print the pattern")
	return cmd
}

func readSigma(cmd *cobra.Command, path string) error {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	text, err := sigma.Read(in)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
