package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/contain/guard"
	"dragnet/contain/ripcord"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/node"
	"dragnet/node/community"
	"dragnet/source/sensor"
	"dragnet/trace/daemon"
	"dragnet/trap"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check configuration files, or show the effective configuration",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newConfigCheck(), newConfigShow())
	return cmd
}

// configurableRole is a role with a configuration.
type configurableRole struct {
	name string
	make func() any // a pointer to its defaults
}

// configurableRoles returns the roles that 'config check' knows. A file with only
// sections that all share is taken for a node's.
func configurableRoles() []configurableRole {
	return []configurableRole{
		{"node", func() any { c := node.DefaultConfiguration(); return &c }},
		{"clearinghouse", func() any { c := community.DefaultConfiguration(); return &c }},
		{"guard", func() any { c := guard.DefaultConfiguration(); return &c }},
		{"trap", func() any { c := trap.DefaultConfiguration(); return &c }},
		{"sensor", func() any { c := sensor.DefaultConfiguration(); return &c }},
		{"ripcord", func() any { c := ripcord.DefaultConfiguration(); return &c }},
		{"ident", func() any { c := daemon.DefaultConfiguration(); return &c }},
	}
}

// roleFlag adds --role, and returns a function that picks the defaults for files:
// those of the named role, or of the role that knows most of their keys.
func roleFlag(cmd *cobra.Command) func(files []string) (any, error) {
	var names []string
	for _, r := range configurableRoles() {
		names = append(names, r.name)
	}
	name := cmd.Flags().String("role", "", "role that reads the configuration: "+strings.Join(names, ", ")+" (default: the role that knows most of its keys)")
	cli.CompleteFlag(cmd, "role", names...)
	return func(files []string) (any, error) {
		best, known := any(nil), -1
		for _, r := range configurableRoles() {
			c := r.make()
			if r.name == *name {
				return c, nil
			}
			if n := conf.CountKnownKeys(c, files...); n > known {
				best, known = c, n
			}
		}
		if *name != "" {
			return nil, cli.Usage(fmt.Errorf("--role %q: want one of %s", *name, strings.Join(names, ", ")))
		}
		return best, nil
	}
}

func newConfigCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Report everything wrong with configuration files",
		Long: `Report everything wrong with configuration files, with file, line and key.

Several files make one configuration, as for 'dragnet run': usually site.yaml,
which every role reads, and then the file of the role. A later file wins. It also
checks the configuration of the roles of 'dragnet-agent run'.
Exit code 0: nothing is wrong. 3: something is. 1: a file could not be read.`,
		Example: "  dragnet config check site.yaml node.yaml\n  dragnet config check --role guard site.yaml guard.yaml",
		Args:    cobra.MinimumNArgs(1),
	}
	pick := roleFlag(cmd)
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		c, err := pick(files)
		if err != nil {
			return err
		}
		err = conf.Load(c, files...)
		wrong, found := errors.AsType[*conf.Error](err)
		if err != nil && !found {
			return err
		}
		var findings []conf.Mistake
		if found {
			findings = wrong.Mistakes
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

// writeFindings prints findings; the table has the form of compiler errors, which
// editors understand.
func writeFindings(w io.Writer, format cli.Format, findings []conf.Mistake) error {
	if format == cli.Table {
		for _, f := range findings {
			if _, err := fmt.Fprintln(w, f); err != nil {
				return err
			}
		}
		return nil
	}
	rows := cli.Rows[conf.Mistake]{Header: []string{"file", "line", "key", "problem"}}
	for _, f := range findings {
		rows.Cells = append(rows.Cells, []string{f.File, strconv.Itoa(f.Line), f.Key, f.Problem})
		rows.Items = append(rows.Items, f)
	}
	return cli.WriteRows(w, format, rows)
}

func newConfigShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [FILE...]",
		Short: "Print the effective configuration, secrets masked",
		Long: `Print the effective configuration: the defaults, overridden by the files. Secrets
are masked. Without a file it prints the defaults. The output is a configuration
file itself, as YAML, or as JSON with -o json.`,
		Example: "  dragnet config show site.yaml node.yaml",
	}
	pick := roleFlag(cmd)
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		c, err := pick(files)
		if err != nil {
			return err
		}
		if err := conf.Load(c, files...); err != nil {
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
		return cli.Usage(fmt.Errorf("a configuration is not a list; use -o json, or leave out -o for YAML"))
	}
	return cmd
}
