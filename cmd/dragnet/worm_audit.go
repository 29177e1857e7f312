package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"dragnet/contain/guard"
	"dragnet/daw/rehearsal"
	"dragnet/detect/failures"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/node/ingest"
)

// maxAttempts bounds the connections of one audit, which are kept in memory: about
// 5 GB.
const maxAttempts = 50_000_000

func newWormAudit() *cobra.Command {
	c := guard.DefaultConfiguration()
	var files, networks []string
	var ports []uint
	cmd := &cobra.Command{
		Use:   "audit SOURCE...",
		Short: "Show whom a guard would have held back, and what they would have lost",
		Long: `Audit plays recorded TCP connections through the limits of a guard: a dry run on
what a network has in its logs, from NetFlow and IPFIX for example, without a
guard. For each source that a limit would have held back it shows when and by
which, how many connections would have been dropped, and how many of these were
answered in fact: what the host would have lost.

A SOURCE is a file or directory of Zeek conn logs, eve.json, access.log or
captures, a data directory, or the address of a ClickHouse database. Silence is
counted where replies are seen at all; an exporter that samples, or that sees one
direction, makes connections look silent. Exit code 3 means that a source would
have been held back.`,
		Example: `  dragnet worm audit /var/lib/dragnet --network 192.0.2.0/24 --port 443 --port 445
  dragnet worm audit conn.log --config /etc/dragnet/guard.yaml -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	output := cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&files, "config", nil, "configuration of a guard: scope, allow and limits; repeat to layer")
	f.StringArrayVar(&networks, "network", nil, "prefix of the sources to watch; repeat for each (overrides the configuration)")
	f.UintSliceVar(&ports, "port", nil, "port to protect; repeat for each (overrides the configuration)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := loadAudit(&c, files, networks, ports); err != nil {
			return err
		}
		all, sampled, err := readAttempts(cmd.Context(), args)
		if err != nil {
			return err
		}
		scope := c.Scope
		scope.Exempt = append(append(scope.Exempt, c.Site.Exempt...), c.Allow...)
		report, err := rehearsal.Run(c.Limits, scope, all)
		if err != nil {
			return err
		}
		if sampled > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d flows were sampled: what is not seen looks silent, and less is counted than was tried\n", sampled)
		}
		return writeAudit(cmd, *output, report)
	}
	return cmd
}

func loadAudit(c *guard.Configuration, files, networks []string, ports []uint) error {
	if len(files) > 0 {
		if err := conf.Load(c, files...); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		} else if err != nil {
			return cli.Usage(err)
		}
	}
	if len(networks) > 0 {
		all, err := parsePrefixes("--network", networks)
		if err != nil {
			return cli.Usage(err)
		}
		c.Scope.Sources = all
	}
	if len(c.Scope.Sources) == 0 {
		c.Scope.Sources = c.Site.Networks
	}
	if len(ports) > 0 {
		c.Scope.Ports = nil
	}
	for _, p := range ports {
		if p == 0 || p > 65535 {
			return cli.Usage(fmt.Errorf("--port %d is not a port", p))
		}
		c.Scope.Ports = append(c.Scope.Ports, uint16(p))
	}
	if err := c.Scope.Validate(); err != nil {
		return cli.Usage(cli.Hint(err, "name them by --network and --port, or a guard's configuration by --config"))
	}
	_, err := c.Limits.Validate()
	return err
}

// readAttempts reads the TCP connections of logs, and counts sampled flows.
func readAttempts(ctx context.Context, sources []string) (all []rehearsal.Attempt, sampled int, err error) {
	logs, err := ingest.OpenAll(sources)
	if err != nil {
		return nil, 0, err
	}
	progress := cli.NewProgress("reading flows", 0)
	defer progress.Done()
	add := flow.SerializeCalls(func(flows []flow.Flow) error {
		progress.Add(int64(len(flows)))
		for i := range flows {
			f := &flows[i]
			if f.Proto != flow.TCP {
				continue
			}
			a := rehearsal.Attempt{At: f.Start, Src: f.Orig, Dst: f.Resp, SrcPort: f.OrigPort, DstPort: f.RespPort}
			switch failures.SignalOf(f) {
			case failures.Success:
				a.Result = rehearsal.Answered
			case failures.Refusal:
				a.Result = rehearsal.Refused
			case failures.Silence:
				a.Result = rehearsal.Silent
			default:
				continue
			}
			if f.Sampling > 1 {
				sampled++
			}
			if len(all) == maxAttempts {
				return fmt.Errorf("more than %d connections; audit a part of the logs", maxAttempts)
			}
			all = append(all, a)
		}
		return nil
	})
	_, err = logs.Scan(ctx, flow.AllTime, failures.Columns, add)
	return all, sampled, err
}

func writeAudit(cmd *cobra.Command, format cli.Format, r rehearsal.Report) error {
	rows := cli.Rows[rehearsal.Source]{Header: []string{"source", "attempts", "failed", "held", "limit", "dropped", "lost", "blocked"}}
	dropped, lost := 0, 0
	for _, s := range r.Held {
		blocked := ""
		if s.Blocked != 0 {
			blocked = formatSecond(s.Blocked)
		}
		rows.Items = append(rows.Items, s)
		rows.Cells = append(rows.Cells, []string{
			s.Addr.String(), fmt.Sprint(s.Attempts), fmt.Sprint(s.Failed), formatSecond(s.Held), s.Limit, fmt.Sprint(s.Dropped), fmt.Sprint(s.Lost), blocked,
		})
		dropped, lost = dropped+s.Dropped, lost+s.Lost
	}
	if err := cli.WriteRows(cmd.OutOrStdout(), format, rows); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d connections of %d hosts from %s to %s; %d hosts would have been held back: %d connections dropped, %d of them were answered\n",
		r.Attempts, r.Hosts, formatSecond(r.First), formatSecond(r.Last), len(r.Held), dropped, lost)
	if len(r.Held) > 0 {
		return cli.Found(fmt.Errorf("%s would have been held back", cli.Plural(len(r.Held), "source")))
	}
	return nil
}
