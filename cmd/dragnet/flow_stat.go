package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/query"
	"dragnet/store"
)

func newFlowStat() *cobra.Command {
	var s selection
	var by string
	var top int
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "stat [FILTER]",
		Short: "Count stored flows, by host, service, outcome or time",
		Long: `Stat counts the stored flows that match a filter: all together, or the largest
groups of them.

` + filterHelp,
		Example: `  dragnet flow stat
  dragnet flow stat state=failed --by src --top 20`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(s.at.choose(cmd), s.parseWords(args)); err != nil {
				return err
			}
			if top < 0 {
				return cli.Usage(errors.New("--top cannot be negative"))
			}
			if err := query.CheckGrouping(by); err != nil {
				return cli.Usage(fmt.Errorf("--by %w", err))
			}
			tallies, err := s.countFlows(cmd, by, top)
			if err != nil {
				return err
			}
			return writeTallies(cmd, *output, tallies)
		},
	}
	output = cli.OutputFlag(cmd)
	s.addFlags(cmd)
	cmd.Flags().StringVar(&by, "by", "", "count by src, dst, dport, proto, state, hour or day")
	cli.CompleteFlag(cmd, "by", "src", "dst", "dport", "proto", "state", "hour", "day")
	cmd.Flags().IntVar(&top, "top", 10, "print at most this many groups, the largest first; 0 prints all")
	return cmd
}

// countFlows returns the largest groups.
func (s *selection) countFlows(cmd *cobra.Command, by string, top int) (tallies []query.GroupCount, err error) {
	if s.at.node != "" {
		return s.countFrom(cmd, by, top)
	}
	return tallies, s.withStore(cmd, func(log store.Reader, chosen query.Selection) (cov flow.Coverage, err error) {
		tallies, cov, err = query.Count(cmd.Context(), log, chosen, by, top)
		return cov, err
	})
}

func writeTallies(cmd *cobra.Command, f cli.Format, all []query.GroupCount) error {
	rows := cli.Rows[query.GroupCount]{Header: []string{"group", "flows", "established", "failed", "bytes", "first", "last"}}
	for _, t := range all {
		rows.Items = append(rows.Items, t)
		rows.Cells = append(rows.Cells, []string{
			t.Group, fmt.Sprint(t.Flows), fmt.Sprint(t.Established), fmt.Sprint(t.Failed), fmt.Sprint(t.Bytes), formatSecond(t.First), formatSecond(t.Last),
		})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}
