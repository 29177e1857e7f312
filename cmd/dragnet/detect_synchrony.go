package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dragnet/detect/coresidence"
	"dragnet/flow"
	"dragnet/internal/cli"
)

func newDetectSynchrony() *cobra.Command {
	o := coresidenceOptions{c: coresidence.DefaultConfiguration(), interval: time.Minute}
	var networks []string
	most := 20_000
	cmd := &cobra.Command{
		Use:   "synchrony SOURCE...",
		Short: "Find hosts that begin to transmit at the same times",
		Long: `Synchrony compares the times at which hosts of your networks begin to transmit,
every pair of them: members of a botnet do so on the same command, though they do
not talk to each other. It is the detector of 'coresidence detect' without
tenants. Hosts on timers, which agree for ever if they agree once, do not count,
nor do hosts that one peer asks for what they send. Exit code 3 means that
pairs were found that nothing explains.

A SOURCE is a file or directory of Zeek conn logs or captures, a data directory,
or the address of a ClickHouse database.`,
		Example: `  dragnet detect run synchrony /var/lib/dragnet --network 192.0.2.0/24 --from 2026-11-22 --to 2026-11-23
  dragnet detect run synchrony conn.log --network 10.0.0.0/8 --interval 10s -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	o.output = cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&networks, "network", nil, "prefix whose hosts are compared; repeat for each")
	f.IntVar(&most, "most", most, "compare at most this many hosts, those with the most flows")
	o.addWindow(cmd)
	o.addComparison(cmd)
	f.StringVar(&o.svg, "svg", "", "also draw each pair into this directory")
	cmd.RunE = func(cmd *cobra.Command, sources []string) error {
		prefixes, err := parsePrefixes("--network", networks)
		if err != nil || len(prefixes) == 0 || most < 2 {
			return cli.Hint(cli.Usage(cmp.Or(err, errors.New("--network is missing, or --most below 2"))), "name your networks, such as --network 192.0.2.0/24")
		}
		if err := o.c.Validate(); err != nil {
			return cli.Usage(err)
		}
		return o.compareHosts(cmd, sources, prefixes, most)
	}
	return cmd
}

func (o *coresidenceOptions) compareHosts(cmd *cobra.Command, sources []string, networks []netip.Prefix, most int) error {
	window, err := o.window()
	if err != nil {
		return err
	}
	hosts, left, err := findHosts(cmd.Context(), sources, networks, window, most)
	if err != nil {
		return err
	}
	a, skipped, err := o.readActivity(cmd.Context(), sources, hosts, window)
	if err != nil {
		return err
	}
	found, err := coresidence.Detect(cmd.Context(), a, o.c)
	if err != nil {
		return err
	}
	if err := o.writeHosts(cmd, found); err != nil {
		return err
	}
	o.writeAccount(cmd.ErrOrStderr(), a, found, skipped)
	if left > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d hosts with fewer flows were not compared (--most)\n", left)
	}
	if o.svg != "" {
		if err := drawAlarms(cmd.ErrOrStderr(), o.svg, a, found.Alarms); err != nil {
			return err
		}
	}
	if n := countUnexplained(found.Alarms); n > 0 {
		return cli.Found(errors.New(cli.Plural(n, "pair") + " of hosts"))
	}
	return nil
}

// findHosts lists the hosts of networks with the most flows, each as a tenant of
// its own, and how many others there are.
func findHosts(ctx context.Context, sources []string, networks []netip.Prefix, w flow.Window, most int) (hosts []coresidence.VM, left int, err error) {
	flows := map[netip.Addr]int{}
	_, err = scanAll(ctx, sources, w, 0, "finding hosts", func(f *flow.Flow) {
		for _, end := range []netip.Addr{f.Orig, f.Resp} {
			if flow.Within(networks, end) {
				flows[end]++
			}
		}
	})
	if err != nil {
		return nil, 0, err
	}
	if len(flows) == 0 {
		return nil, 0, cli.Hint(errors.New("no flow concerns a host of --network"), "check the prefixes, and the sources with 'dragnet flow import'")
	}
	var all []netip.Addr
	for a := range flows {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b netip.Addr) int { return cmp.Or(flows[b]-flows[a], a.Compare(b)) })
	left = max(0, len(all)-most)
	for _, a := range all[:len(all)-left] {
		hosts = append(hosts, coresidence.VM{Address: a, Tenant: a.String()})
	}
	return hosts, left, nil
}

func (o *coresidenceOptions) writeHosts(cmd *cobra.Command, found coresidence.Result) error {
	rows := cli.Rows[coresidence.Alarm]{Header: []string{"host", "with", "p", "hits", "expected", "lag", "explained by"}, Document: found}
	for _, a := range found.Alarms {
		by := ""
		if a.ExplainedBy != nil {
			by = a.ExplainedBy.String()
		}
		rows.Items = append(rows.Items, a)
		rows.Cells = append(rows.Cells, []string{nameOf(a.VM), namesOf(a.Others), fmt.Sprintf("%.2g", a.P), fmt.Sprintf("%d of %d", a.Hits, a.Onsets), fmt.Sprintf("%.1f", a.Expected), lagOf(a), by})
	}
	return cli.WriteRows(cmd.OutOrStdout(), *o.output, rows)
}
