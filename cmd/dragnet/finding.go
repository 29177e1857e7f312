package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/decisions"
	nodev1 "dragnet/wire/node/v1"
)

func newFinding() *cobra.Command {
	cmd := &cobra.Command{Use: "finding", Short: "Show what detectors found", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newFindingList(), newFindingShow())
	return cmd
}

func newFindingList() *cobra.Command {
	var host string
	var most uint32
	cmd := &cobra.Command{
		Use: "list", Short: "List findings, the latest first",
		Example: "  dragnet finding list --host 198.51.100.7 -o json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&host, "host", "", "only findings about this host")
	cmd.Flags().Uint32Var(&most, "limit", 100, "list at most this many, up to 10000")
	output := cli.OutputFlag(cmd)
	runOnLedger(cmd, func(cmd *cobra.Command, book *openLedger, _ []string) error {
		got, err := book.findings.ListFindings(cmd.Context(), &nodev1.ListFindingsRequest{Host: host, Limit: most})
		if err != nil {
			return book.explain(err, "")
		}
		found, err := readMessages(got.Findings, decisions.ReadFinding)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "no finding is kept; a node keeps its own, 'dragnet detect run failures --keep DIR' those of a run")
		}
		return printFindings(cmd, *output, found)
	})
	return cmd
}

func newFindingShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a finding with its evidence",
		Example: "  dragnet finding show 5TQ3ZHNEW7AFKXQ2",
		Args:    cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(cmd)
	runOnLedger(cmd, func(cmd *cobra.Command, book *openLedger, args []string) error {
		f, err := book.Finding(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *output == cli.JSON {
			return cli.WriteJSON(cmd.OutOrStdout(), f)
		}
		if *output == cli.Table {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s, by %s\n%s\nfirst %s, last %s\n", f.ID, f.Kind, f.Detector, f.Summary, formatSecond(f.First), formatSecond(f.Last))
			for _, name := range slices.Sorted(maps.Keys(f.Evidence.Counts)) {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d\n", name, f.Evidence.Counts[name])
			}
			for _, name := range slices.Sorted(maps.Keys(f.Evidence.Thresholds)) {
				fmt.Fprintf(cmd.OutOrStdout(), "threshold of %s: %g\n", name, f.Evidence.Thresholds[name])
			}
			printTogether(cmd.OutOrStdout(), f.Evidence)
			fmt.Fprintln(cmd.OutOrStdout())
		}
		rows := cli.Rows[dossier.FlowEvidence]{Header: []string{"time", "from", "to", "port", "proto", "state"}}
		for _, s := range f.Evidence.Flows {
			rows.Items = append(rows.Items, s)
			rows.Cells = append(rows.Cells, []string{s.Time.String(), s.Orig.String(), s.Resp.String(), fmt.Sprint(s.Port), s.Proto, s.State})
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
	})
	return cmd
}

// printTogether prints with whom and when a host acted together, if its detector
// compares times.
func printTogether(w io.Writer, e dossier.Evidence) {
	if e.P == nil {
		return
	}
	fmt.Fprintf(w, "chance without a common cause: %.2g\n", *e.P)
	for _, a := range e.Peers {
		fmt.Fprintf(w, "together with: %s\n", a)
	}
	for _, t := range e.Times {
		fmt.Fprintf(w, "at: %s\n", t)
	}
}
