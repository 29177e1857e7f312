package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/query"
	"dragnet/store"
)

func listedCells(l *query.ListedFlow) []string {
	return []string{
		l.Start.String(), l.End.String(), l.Src.String(), fmt.Sprint(l.SrcPort), l.Dst.String(), fmt.Sprint(l.DstPort), l.Proto, l.State,
		fmt.Sprint(l.OrigBytes), fmt.Sprint(l.RespBytes), fmt.Sprint(l.OrigPkts), fmt.Sprint(l.RespPkts), l.History,
	}
}

func newFlowList() *cobra.Command {
	var s selection
	var limit int
	var last bool
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "list [FILTER]",
		Short: "Print stored flows in order of time",
		Long: `List prints the stored flows that match a filter, in order of time: the first
--limit of them, or with --last the last. With --limit 0 it prints all, as JSON
lines, in the order in which they are read.

` + filterHelp,
		Example: `  dragnet flow list dport=22 state=failed --last
  dragnet flow list host=198.51.100.7 --from 2026-11-22 --limit 0 -o jsonl
  dragnet flow list --node unix:///run/dragnet/node.sock dport=22`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(s.at.choose(cmd), s.parseWords(args)); err != nil {
				return err
			}
			switch {
			case limit < 0:
				return cli.Usage(fmt.Errorf("--limit %d: want 0 or more", limit))
			case limit == 0 && *output != cli.JSONL:
				return cli.Usage(fmt.Errorf("--limit 0 prints JSON lines: add -o jsonl"))
			case limit == 0:
				enc := json.NewEncoder(cmd.OutOrStdout())
				write := func(r *query.ListedFlow) error { return enc.Encode(r) }
				if s.at.node != "" {
					return s.streamFrom(cmd, write)
				}
				return s.withStore(cmd, func(log store.Reader, chosen query.Selection) (flow.Coverage, error) {
					return query.Each(cmd.Context(), log, chosen, write)
				})
			}
			rows, err := s.listFlows(cmd, limit, last)
			if err != nil {
				return err
			}
			return writeListed(cmd, *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	s.addFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "print at most this many; 0 prints all")
	cmd.Flags().BoolVar(&last, "last", false, "the last ones rather than the first")
	return cmd
}

// listFlows returns the first or last rows.
func (s *selection) listFlows(cmd *cobra.Command, limit int, last bool) (rows []query.ListedFlow, err error) {
	if s.at.node != "" {
		return s.listFrom(cmd, limit, last)
	}
	return rows, s.withStore(cmd, func(log store.Reader, chosen query.Selection) (cov flow.Coverage, err error) {
		rows, _, cov, err = query.List(cmd.Context(), log, chosen, query.Page{Limit: limit, Last: last})
		return cov, err
	})
}

func writeListed(cmd *cobra.Command, format cli.Format, kept []query.ListedFlow) error {
	rows := cli.Rows[query.ListedFlow]{Header: []string{"start", "end", "src", "sport", "dst", "dport", "proto", "state", "bytes", "bytes back", "pkts", "pkts back", "history"}}
	for i := range kept {
		rows.Items = append(rows.Items, kept[i])
		rows.Cells = append(rows.Cells, listedCells(&kept[i]))
	}
	return cli.WriteRows(cmd.OutOrStdout(), format, rows)
}
