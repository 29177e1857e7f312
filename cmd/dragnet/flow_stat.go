package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
)

// tally sums up the flows of one group.
type tally struct {
	Group       string    `json:"group"`
	Flows       uint64    `json:"flows"`
	Established uint64    `json:"established"`
	Failed      uint64    `json:"failed"`
	Bytes       uint64    `json:"bytes"`
	First       flow.Time `json:"first_seen"`
	Last        flow.Time `json:"last_seen"`
}

func (t *tally) add(f *flow.Flow) {
	if t.Flows == 0 || f.Start < t.First {
		t.First = f.Start
	}
	if t.Flows == 0 || f.Start > t.Last {
		t.Last = f.Start
	}
	t.Flows++
	if f.Established() {
		t.Established++
	}
	if f.Failed() {
		t.Failed++
	}
	l := listed(f)
	t.Bytes += l.OrigBytes + l.RespBytes
}

// groupings are the values of --by.
var groupings = map[string]func(*flow.Flow) string{
	"src":   func(f *flow.Flow) string { return f.Orig.String() },
	"dst":   func(f *flow.Flow) string { return f.Resp.String() },
	"dport": func(f *flow.Flow) string { return f.Proto.String() + "/" + strconv.Itoa(int(f.RespPort)) },
	"proto": func(f *flow.Flow) string { return f.Proto.String() },
	"state": func(f *flow.Flow) string { return f.State.String() },
	"hour":  func(f *flow.Flow) string { return f.Start.Time().Truncate(time.Hour).Format(time.RFC3339) },
	"day":   func(f *flow.Flow) string { return f.Start.Time().Format(time.DateOnly) },
}

// maxGroups bounds what stat keeps in memory, about 200 bytes each.
const maxGroups = 1 << 20

func newFlowStat() *cobra.Command {
	var s selection
	var by string
	var top int
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "stat DATADIR [FILTER]",
		Short: "Count stored flows, by host, service, outcome or time",
		Long: `Stat counts the stored flows that fit a filter: all together, or the largest
groups of them.

` + filterHelp,
		Example: `  dragnet flow stat /var/lib/dragnet
  dragnet flow stat /var/lib/dragnet state=failed --by src --top 20`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, words := s.at.split(args)
			if err := s.parse(words); err != nil {
				return err
			}
			if s.at.node != "" {
				return s.statFrom(cmd, *output, by, top)
			}
			group := func(*flow.Flow) string { return "all" }
			if by != "" {
				var err error
				if group, err = oneOf("--by", by, groupings); err != nil {
					return cli.Usage(err)
				}
			}
			tallies := map[string]*tally{}
			err := s.each(cmd, dir, flow.AllColumns, func(f *flow.Flow) error {
				g := group(f)
				t := tallies[g]
				if t == nil {
					if len(tallies) == maxGroups {
						return cli.Hint(fmt.Errorf("more than %d groups", maxGroups), "narrow the filter or the time")
					}
					t = &tally{Group: g}
					tallies[g] = t
				}
				t.add(f)
				return nil
			})
			if err != nil {
				return err
			}
			return writeTallies(cmd, *output, slices.Collect(maps.Values(tallies)), top)
		},
	}
	output = cli.OutputFlag(cmd)
	s.register(cmd)
	cmd.Flags().StringVar(&by, "by", "", "count by src, dst, dport, proto, state, hour or day")
	cmd.Flags().IntVar(&top, "top", 10, "print at most this many groups, the largest first; 0 prints all")
	return cmd
}

func writeTallies(cmd *cobra.Command, f cli.Format, all []*tally, top int) error {
	if top < 0 {
		return cli.Usage(errors.New("--top cannot be negative"))
	}
	slices.SortFunc(all, func(a, b *tally) int { return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Group, b.Group)) })
	if top > 0 {
		all = all[:min(top, len(all))]
	}
	rows := cli.Rows{Header: []string{"group", "flows", "established", "failed", "bytes", "first", "last"}}
	for _, t := range all {
		rows.Items = append(rows.Items, t)
		rows.Cells = append(rows.Cells, []string{
			t.Group, fmt.Sprint(t.Flows), fmt.Sprint(t.Established), fmt.Sprint(t.Failed), fmt.Sprint(t.Bytes), second(t.First), second(t.Last),
		})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}
