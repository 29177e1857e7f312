package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
)

func newEntry() *cobra.Command {
	cmd := &cobra.Command{Use: "entry", Short: "Show hosts that a clearinghouse publishes, and their history", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newEntryList(), newEntryHistory())
	return cmd
}

func newEntryList() *cobra.Command {
	var where clearingFlags
	var which selectionFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List published hosts by address, group, pattern, time or confidence",
		Long: `List prints hosts with the group each belongs to. Numbers of sources and
witnesses are lower bounds: the clearinghouse rounds them down to a coarse scale,
and times to its grain.`,
		Example: "  dragnet entry list --host 198.51.100.7 --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b...",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			entries, next, err := fetchPages(cmd.Context(), &which, c.ListEntries)
			if err != nil {
				return err
			}
			return writePage(cmd, *output, entryRows(entries, next), next)
		},
	}
	output = cli.OutputFlag(cmd)
	where.addFlags(cmd, false)
	which.addFlags(cmd)
	return cmd
}

func entryRows(entries []dossier.Entry, next string) cli.Rows[dossier.Entry] {
	rows := cli.Rows[dossier.Entry]{Header: []string{"host", "group", "first_seen", "last_seen", "sources", "witnesses", "confidence", "until"}, Cursor: next}
	for _, e := range entries {
		rows.Items = append(rows.Items, e)
		rows.Cells = append(rows.Cells, entryCells(&e))
	}
	return rows
}

func entryCells(e *dossier.Entry) []string {
	return []string{e.Host.String(), e.Group, formatSecond(e.First), formatSecond(e.Last), fmt.Sprint(e.Sources), fmt.Sprint(e.Witnesses), fmt.Sprint(e.Confidence), formatSecond(e.Until)}
}

func newEntryHistory() *cobra.Command {
	var where clearingFlags
	var after int64
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "history [HOST]",
		Short: "Show when a host, or without HOST every host, was listed, updated and removed",
		Long: `History prints what was published about a host, the oldest first. Without HOST it
prints the changes of all hosts: note the last sequence number, and continue from
it with --after.`,
		Example: "  dragnet entry history 198.51.100.7 --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b...",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var host netip.Addr
			if len(args) == 1 {
				var err error
				if host, err = netip.ParseAddr(args[0]); err != nil {
					return cli.Usage(fmt.Errorf("%q is not an address", args[0]))
				}
			}
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			changes, err := c.ListChanges(cmd.Context(), host, after, 1000)
			if err != nil {
				return err
			}
			rows := cli.Rows[dossier.Change]{Header: append([]string{"sequence", "time", "kind"}, entryRows(nil, "").Header...)}
			for _, x := range changes {
				rows.Items = append(rows.Items, x)
				rows.Cells = append(rows.Cells, append([]string{fmt.Sprint(x.Sequence), formatSecond(x.Time), string(x.Kind)}, entryCells(&x.Entry)...))
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	where.addFlags(cmd, false)
	cmd.Flags().Int64Var(&after, "after", 0, "changes after this sequence number")
	return cmd
}
