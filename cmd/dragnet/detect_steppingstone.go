package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dragnet/detect/steppingstone"
	"dragnet/internal/cli"
	"dragnet/packet/capture"
)

func newDetectSteppingStone() *cobra.Command {
	c := steppingstone.DefaultConfiguration()
	var networks []string
	var keep, observer string
	cmd := &cobra.Command{
		Use:   "steppingstone CAPTURE...",
		Short: "Find hosts through which somebody passes on",
		Long: `Steppingstone compares the times and sizes of packets of all pairs of TCP connections
that cross the edge of your networks: where data arrives by one and leaves by the
other, and what comes back does so as well, a host of yours is a step of a chain. At
least one of the two must come from outside (see --reverse). It
needs no program on any host, sees through encryption, and says where to ask with
'dragnet trace'. One in a thousand pairs of unrelated connections that carry as
much data is reported too. Exit code 3 means that pairs were found.

Several captures of the same edge are one, in the order of time.`,
		Example: `  dragnet detect run steppingstone edge.pcap --network 192.0.2.0/24
  dragnet detect run steppingstone monday.pcap tuesday.pcap --network 192.0.2.0/24 --score 6 -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	output := cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&networks, "network", nil, "prefix of our network; repeat for each")
	f.DurationVar(&c.MaxDelay, "max-delay", c.MaxDelay, "how long a host may keep data before it passes it on")
	f.Float64Var(&c.Score, "score", c.Score, "least score of a pair that is reported")
	f.IntVar(&c.MinOnsets, "onsets", c.MinOnsets, "packets that begin something new, in each direction, from which a pair is judged")
	f.BoolVar(&c.AnyHost, "any-host", false, "also compare connections of two hosts of your networks; takes longer")
	f.BoolVar(&c.Reverse, "reverse", false, "also compare connections both opened from your networks, as by a reverse shell; a browser's follow each other too")
	f.IntVar(&c.MaxConnections, "most", c.MaxConnections, "keep at most this many connections, those with most data")
	f.StringVar(&observer, "observer", "", "name of your site in the findings")
	f.StringVar(&keep, "keep", "", "data directory to keep the findings in, for 'finding list'")
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		var err error
		if c.Networks, err = parsePrefixes("--network", networks); err != nil {
			return cli.Usage(err)
		}
		if err := c.Validate(); err != nil {
			return cli.Hint(cli.Usage(err), "name your networks, such as --network 192.0.2.0/24")
		}
		table := steppingstone.NewTable(c)
		for _, path := range paths {
			if err := readEdge(cmd.Context(), table, path); err != nil {
				return err
			}
		}
		all := table.Connections()
		pairs, err := steppingstone.Detect(cmd.Context(), c, all)
		if err != nil {
			return err
		}
		found := steppingstone.Findings(observer, pairs)
		fmt.Fprintf(cmd.ErrOrStderr(), "examined %s in %d packets; %d other packets do not cross the edge by TCP\n", cli.Plural(len(all), "connection"), table.Packets, table.Other)
		if table.Forgotten+table.Cut > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d connections with least data were dropped for want of room (--most), and of %d only the beginning was compared\n", table.Forgotten, table.Cut)
		}
		if err := printFindings(cmd, *output, found); err != nil {
			return err
		}
		if keep != "" {
			if err := keepFindings(cmd.Context(), keep, found); err != nil {
				return err
			}
		}
		if len(found) > 0 {
			return cli.Found(errors.New(cli.Plural(len(found), "pair") + " of connections"))
		}
		return nil
	}
	return cmd
}

func readEdge(ctx context.Context, table *steppingstone.Table, path string) error {
	f, err := capture.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	if err := table.Read(f.Reader); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("read %s: %w", path, err))
	}
	return nil
}
