package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/ingest"
	"dragnet/store"
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

// grouping is a way to group flows: how a store calls it that counts by itself,
// and what a group is called.
type grouping struct {
	id   store.Grouping
	name func(*flow.Flow) string
}

// groupings are the values of --by.
var groupings = map[string]grouping{
	"":      {store.All, func(*flow.Flow) string { return "all" }},
	"src":   {store.BySource, func(f *flow.Flow) string { return f.Orig.String() }},
	"dst":   {store.ByDestination, func(f *flow.Flow) string { return f.Resp.String() }},
	"dport": {store.ByService, func(f *flow.Flow) string { return f.Proto.String() + "/" + strconv.Itoa(int(f.RespPort)) }},
	"proto": {store.ByProto, func(f *flow.Flow) string { return f.Proto.String() }},
	"state": {store.ByState, func(f *flow.Flow) string { return f.State.String() }},
	"hour":  {store.ByHour, func(f *flow.Flow) string { return f.Start.Time().Truncate(time.Hour).Format(time.RFC3339) }},
	"day":   {store.ByDay, func(f *flow.Flow) string { return f.Start.Time().Format(time.DateOnly) }},
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
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.parse(args[1:]); err != nil {
				return err
			}
			g, ok := groupings[by]
			if !ok {
				return cli.Usage(fmt.Errorf("--by %q: want day, dport, dst, hour, proto, src or state", by))
			}
			tallies, err := s.tally(cmd, args[0], g)
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

// counting is a store that counts where its flows lie.
type counting interface {
	Tally(ctx context.Context, filter *pattern.Filter, w flow.Window, by store.Grouping, fn func(store.Tally) error) (flow.Coverage, error)
}

var errGroups = cli.Hint(fmt.Errorf("more than %d groups", maxGroups), "narrow the filter or the time")

// tally counts the chosen flows, where they lie if the store can.
func (s *selection) tally(cmd *cobra.Command, place string, g grouping) (tallies map[string]*tally, err error) {
	tallies = map[string]*tally{}
	opened, err := ingest.OpenStore(cmd.Context(), place)
	if err != nil {
		return nil, err
	}
	there, ok := opened.(counting)
	if !ok {
		if err := opened.Close(); err != nil {
			return nil, err
		}
		return tallies, s.each(cmd, place, flow.AllColumns, func(f *flow.Flow) error {
			t, err := groupOf(tallies, g.name(f))
			if err == nil {
				t.add(f)
			}
			return err
		})
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	_, err = there.Tally(cmd.Context(), s.filter, s.window, g.id, func(v store.Tally) error {
		t, err := groupOf(tallies, g.name(&v.Flow))
		if err != nil {
			return err
		}
		if t.Flows > 0 {
			return fmt.Errorf("two groups are called %q", t.Group)
		}
		*t = tally{t.Group, v.Flows, v.Established, v.Failed, v.Bytes, v.First, v.Last}
		return nil
	})
	return tallies, err
}

func groupOf(tallies map[string]*tally, name string) (*tally, error) {
	t := tallies[name]
	if t == nil {
		if len(tallies) == maxGroups {
			return nil, errGroups
		}
		t = &tally{Group: name}
		tallies[name] = t
	}
	return t, nil
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
