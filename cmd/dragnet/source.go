package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/ingest"
	"dragnet/node/layout"
	"dragnet/node/sensors"
	"dragnet/store"
	"dragnet/store/disk"
)

func newSource() *cobra.Command {
	cmd := &cobra.Command{Use: "source", Short: "Where flows come from, and what was lost on the way", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newSourceList())
	return cmd
}

func newSourceList() *cobra.Command {
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "list DATADIR",
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

Counts of exporters are since the node was started, the others since the
beginning. The row "collector" is what was lost before it was known of which
exporter it is.`,
		Example: `  dragnet source list /var/lib/dragnet
  dragnet source list /var/lib/dragnet -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := listSources(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			rows := cli.Rows{Header: []string{"kind", "name", "flows", "sampling", "last", "lost"}}
			for _, s := range all {
				rows.Items = append(rows.Items, s)
				rows.Cells = append(rows.Cells, []string{s.Kind, s.Name, fmt.Sprint(s.Flows), samplingText(s.Sampling), lastText(s.At), lostText(s.Lost)})
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	return cmd
}

// listSources reads what the store knows of logs, and what the node says of the
// others.
func listSources(ctx context.Context, place string) (all []sensors.Source, err error) {
	s, err := ingest.OpenReader(ctx, place)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if known, ok := s.(interface {
		Sources(context.Context) ([]store.ImportedLog, error)
	}); ok {
		logs, err := known.Sources(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range logs {
			if strings.HasPrefix(l.ID, "sensor ") || strings.HasPrefix(l.ID, "kafka ") {
				continue // the node's report has it
			}
			one := sensors.Source{Kind: "log", Name: l.Name, Flows: l.Flows, Lost: map[string]uint64{}, At: l.Imported.Time()}
			if l.Skipped > 0 {
				one.Lost["skipped"] = l.Skipped
			}
			all = append(all, one)
		}
		slices.SortFunc(all, func(a, b sensors.Source) int { return strings.Compare(a.Name, b.Name) })
	}
	if !disk.Is(place) {
		return all, nil
	}
	r, err := sensors.ReadReport(layout.Directory(place).Sources())
	return append(all, r.Sources...), err
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
