package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"dragnet/detect/failures"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/ingest"
	"dragnet/node/layout"
)

func newDetect() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detect",
		Short: "Look for attackers in logs and captures",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	run := &cobra.Command{
		Use:   "run",
		Short: "Run a detector on files",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	run.AddCommand(newDetectFailures(), newDetectSteppingStone(), newDetectSynchrony())
	cmd.AddCommand(run)
	return cmd
}

func newDetectFailures() *cobra.Command {
	c := failures.DefaultConfiguration()
	var networks, exempt []string
	var keep string
	cmd := &cobra.Command{
		Use:   "failures SOURCE...",
		Short: "Find scanners by the connections they fail to make",
		Long: `Failures judges each source by the hosts it tried, in all and on each port: how
many never answered, and how few of these it tried again; and by the ports it tried
on each host: how many failed. A target counts once however often it is
tried. A finding says so where the source may be forged, since it completed no
handshake. Exit code 3 means that scanners were found.

A SOURCE is a file or directory of Zeek conn logs, eve.json, access.log or
captures, a data directory, or the address of a ClickHouse database.`,
		Example: `  dragnet detect run failures /var/log/zeek --network 192.0.2.0/24
  dragnet detect run failures border.pcap --exempt 203.0.113.9/32 -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	output := cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&networks, "network", nil, "prefix of our network, whose hosts have a higher threshold; repeat for each")
	f.StringArrayVar(&exempt, "exempt", nil, "prefix of sources that may scan; repeat for each")
	f.DurationVar(&c.Window, "window", c.Window, "span over which targets are counted")
	f.IntVar(&c.Remote, "remote", c.Remote, "failed targets from which a source is judged")
	f.IntVar(&c.Local, "local", c.Local, "the same on one port or host, for one of our hosts")
	f.IntVar(&c.Silence, "silence", c.Silence, "factor for ports of one host that failed only by silence")
	f.Float64Var(&c.Share, "share", c.Share, "least share of the ports of one host that failed")
	f.Float64Var(&c.Alpha, "alpha", c.Alpha, "chance that a source of the benign model is reported in a window")
	f.BoolVar(&c.Validated, "validated", false, "no forged source address can leave our network")
	f.StringVar(&keep, "keep", "", "data directory to keep the findings in, for 'finding list'")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if c.Networks, err = parsePrefixes("--network", networks); err != nil {
			return cli.Usage(err)
		}
		if c.Exempt, err = parsePrefixes("--exempt", exempt); err != nil {
			return cli.Usage(err)
		}
		if err := c.Validate(); err != nil {
			return cli.Usage(err)
		}
		found, seen, err := detectFailures(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		if seen.forgotten > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d of the smallest groups were dropped because the table was full; a slow scanner may be missed\n", seen.forgotten)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "examined %s; a source is judged from %d failed targets, one of --network from %d\n", seen, c.Remote, c.Local)
		if err := printFindings(cmd, *output, found); err != nil {
			return err
		}
		if keep != "" {
			if err := keepFindings(cmd.Context(), keep, found); err != nil {
				return err
			}
		}
		if len(found) > 0 {
			return cli.Found(fmt.Errorf("%s", cli.Plural(len(found), "finding")))
		}
		return nil
	}
	return cmd
}

func parsePrefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("%s %q is not a prefix such as 198.51.100.0/24", flag, t)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// suspecting is a store that counts failures on the server.
type suspecting interface {
	FailingSources(ctx context.Context, w flow.Window, span time.Duration, hosts, ports int) ([]netip.Addr, error)
	ScanFrom(ctx context.Context, sources []netip.Addr, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error)
}

// addSuspects adds only the flows of sources that fail often enough to be
// reported.
func addSuspects(ctx context.Context, c failures.Configuration, store suspecting, add func([]flow.Flow) error) (flow.Coverage, error) {
	span, least := c.Slice()
	sources, err := store.FailingSources(ctx, flow.AllTime, span, least, least)
	if err != nil {
		return flow.Coverage{}, err
	}
	return store.ScanFrom(ctx, sources, flow.AllTime, failures.Columns, add)
}

// examined is what a detector was given.
type examined struct {
	flow.Coverage
	// suspects is set where the database left out the sources that fail too seldom to
	// be judged.
	suspects bool
	// forgotten is how many groups were dropped for want of room.
	forgotten uint64
}

// String says what was examined, for a statement about what was found.
func (e *examined) String() string {
	text := cli.Plural(int(e.Flows), "flow")
	if e.suspects {
		text += " of the sources that failed most"
	}
	if e.Flows > 0 {
		text += fmt.Sprintf(", which began from %s to %s", formatSecond(e.From), formatSecond(e.To))
	}
	if e.Sampling > 1 {
		text += fmt.Sprintf(", sampled 1 in %d", e.Sampling)
	}
	if e.Skipped > 0 {
		text += fmt.Sprintf(", and skipped %s", cli.Plural(int(e.Skipped), "record"))
	}
	return text
}

func detectFailures(ctx context.Context, c failures.Configuration, sources []string) ([]dossier.Finding, *examined, error) {
	d, seen := failures.New(c), &examined{}
	progress := cli.NewProgress("reading flows", 0)
	defer progress.Done()
	for _, path := range sources {
		log, err := ingest.Open(path)
		if err != nil {
			return nil, nil, err
		}
		add := flow.SerializeCalls(func(flows []flow.Flow) error {
			progress.Add(int64(len(flows)))
			d.Add(flows)
			return nil
		})
		var read flow.Coverage
		// Of several logs, each may have too few of a source's failures.
		if store, ok := log.(suspecting); ok && len(sources) == 1 {
			seen.suspects = true
			read, err = addSuspects(ctx, c, store, add)
		} else {
			read, err = log.Scan(ctx, flow.AllTime, failures.Columns, add)
		}
		if err != nil {
			return nil, nil, err
		}
		seen.Merge(read)
	}
	seen.forgotten = d.Forgotten
	return d.Findings(), seen, nil
}

func keepFindings(ctx context.Context, dir string, found []dossier.Finding) error {
	d, err := layout.Directory(dir).OpenLedger(ctx)
	if err != nil {
		return err
	}
	_, err = d.AddFindings(ctx, found)
	return errors.Join(err, d.Close())
}

func printFindings(cmd *cobra.Command, f cli.Format, found []dossier.Finding) error {
	rows := cli.Rows[dossier.Finding]{Header: []string{"id", "host", "kind", "first", "last", "summary"}}
	for _, x := range found {
		rows.Items = append(rows.Items, x)
		rows.Cells = append(rows.Cells, []string{x.ID, x.Host.String(), x.Kind, formatSecond(x.First), formatSecond(x.Last), x.Summary})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}
