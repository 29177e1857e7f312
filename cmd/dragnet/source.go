package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/layout"
	"dragnet/node/query"
	"dragnet/node/sensors"
	"dragnet/store/disk"
	nodev1 "dragnet/wire/node/v1"
)

func newSource() *cobra.Command {
	cmd := &cobra.Command{Use: "source", Short: "Where flows come from, and what was lost on the way", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newSourceList())
	return cmd
}

func newSourceList() *cobra.Command {
	var at nodeFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List logs, exporters and sensors with what was lost of each",
		Long: `List names every source of the flows in a data directory: the logs and captures
that were imported, the configured prefixes of exporters, the topics, and the sensors; and of
each how many flows it gave and what was lost, by cause:

  skipped                      lines, packets or records that could not be used
  missing_in_sequence          flows or datagrams, by an exporter's own numbers
  sets_without_template        sets whose template had not come
  samples_dropped_by_exporter  as the exporter says
  datagrams_...                malformed, overflowed in the kernel's buffer,
                               foreign, of unknown format, refused
  records_with_wrong_clock     whose times were moved to when they arrived
  flows_one_sided              TCP flows of which one direction only was seen
  packets_dropped_by_kernel    of a sensor whose ring was full
  messages_...                 of a topic: malformed, removed_before_read by the
                               cluster's retention, waiting

Counts are since the beginning; what a node that was killed had received in its last
minute is not in them (times_killed). Below a prefix of more than one address come
the exporters in it that are known now, as kind address; their counts are within
those of the prefix. The row "collector" counts what was lost before its exporter
was known.`,
		Example: `  dragnet source list
  dragnet source list --node unix:///var/lib/dragnet/node.sock -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := at.choose(cmd); err != nil {
				return err
			}
			all, err := listSources(cmd, &at)
			if err != nil {
				return err
			}
			rows := cli.Rows[sensors.Source]{Header: []string{"kind", "name", "flows", "sampling", "last", "lost"}}
			for _, s := range all {
				rows.Items = append(rows.Items, s)
				rows.Cells = append(rows.Cells, []string{s.Kind, s.Name, fmt.Sprint(s.Flows), samplingText(s.Sampling), lastText(s.At), lostText(s.Lost)})
			}
			if len(all) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "no source has sent a flow to %s\n", at.place())
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	at.addFlags(cmd)
	return cmd
}

// listSources reads a data directory or a database here, or asks a node.
func listSources(cmd *cobra.Command, at *nodeFlags) (all []sensors.Source, err error) {
	if at.node == "" {
		report := ""
		if disk.Is(at.data) {
			report = layout.Directory(at.data).Sources()
		}
		return query.Sources(cmd.Context(), at.data, report)
	}
	client, err := at.dialNode()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	got, err := client.Store.ListSources(cmd.Context(), &nodev1.ListSourcesRequest{})
	if err != nil {
		return nil, at.explainError(err)
	}
	for _, m := range got.Sources {
		one := sensors.Source{Kind: m.Kind, Name: m.Name, Flows: m.Flows, Lost: m.Lost, Sampling: m.Sampling}
		if one.Lost == nil {
			one.Lost = map[string]uint64{}
		}
		if m.At != nil {
			one.At = m.At.AsTime()
		}
		all = append(all, one)
	}
	return all, nil
}

func samplingText(n uint32) string {
	switch n {
	case 0:
		return "unknown"
	case 1:
		return "none"
	}
	return fmt.Sprintf("1 in %d", n)
}

func lastText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func lostText(lost map[string]uint64) string {
	var parts []string
	for _, cause := range slices.Sorted(maps.Keys(lost)) {
		parts = append(parts, fmt.Sprintf("%s: %d", cause, lost[cause]))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
