package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/node/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check configuration files, or show what they amount to",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newConfigCheck(), newConfigShow())
	return cmd
}

func newConfigCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Report everything wrong with configuration files",
		Long: `Report everything wrong with configuration files, with file, line and key.

Several files make one configuration, as for 'dragnet run': usually site.yaml,
which every role reads, and then the file of the role. A later file wins.
Exit code 0: nothing is wrong. 3: something is. 1: a file could not be read.`,
		Example: "  dragnet config check site.yaml node.yaml",
		Args:    cobra.MinimumNArgs(1),
	}
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		_, err := config.Load(files...)
		wrong, found := errors.AsType[*conf.Error](err)
		if err != nil && !found {
			return err
		}
		var findings []conf.Finding
		if found {
			findings = wrong.Findings
		}
		if err := writeFindings(cmd.OutOrStdout(), *format, findings); err != nil {
			return err
		}
		if len(findings) == 0 {
			return nil
		}
		return cli.Found(fmt.Errorf("%s: findings: %d", strings.Join(files, " "), len(findings)))
	}
	return cmd
}

// writeFindings prints findings; the table is the form compilers use, which
// editors understand.
func writeFindings(w io.Writer, format cli.Format, findings []conf.Finding) error {
	if format == cli.Table {
		for _, f := range findings {
			if _, err := fmt.Fprintln(w, f); err != nil {
				return err
			}
		}
		return nil
	}
	rows := cli.Rows{Header: []string{"file", "line", "key", "problem"}, Items: []any{}}
	for _, f := range findings {
		rows.Cells = append(rows.Cells, []string{f.File, strconv.Itoa(f.Line), f.Key, f.Problem})
		rows.Items = append(rows.Items, f)
	}
	rows.Document = struct {
		Version  int   `json:"version"`
		Findings []any `json:"findings"`
	}{1, rows.Items}
	return cli.WriteRows(w, format, rows)
}

func newConfigShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [FILE...]",
		Short: "Print the effective configuration, secrets masked",
		Long: `Print the effective configuration: the defaults, and over them what the files
set. Secrets are masked. Without a file the defaults are printed. The output is
a configuration file itself, as YAML, or as JSON with -o json.`,
		Example: "  dragnet config show site.yaml node.yaml",
	}
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		c, err := config.Load(files...)
		if err != nil {
			return err
		}
		switch *format {
		case cli.Table:
			return conf.Show(cmd.OutOrStdout(), c)
		case cli.JSON:
			tree, err := conf.Tree(c)
			if err != nil {
				return err
			}
			return cli.WriteJSON(cmd.OutOrStdout(), tree)
		}
		return cli.Usage(fmt.Errorf("a configuration is not a list; use -o json, or no -o for YAML"))
	}
	return cmd
}
