package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/dossier"
	"dragnet/internal/cli"
	reportingv1 "dragnet/wire/reporting/v1"
)

func newGroup() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "Show groups of hosts that a clearinghouse publishes", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newGroupList(), newGroupShow())
	return cmd
}

// selectionFlags narrow what a clearinghouse publishes.
type selectionFlags struct {
	hosts, group, pattern, since, before, cursor string
	confidence, limit                            int
	all                                          bool
}

func (s *selectionFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.hosts, "host", "", "an address or prefix")
	f.StringVar(&s.group, "group", "", "a group")
	f.StringVar(&s.pattern, "pattern", "", "a pattern; an undisclosed one finds its group too")
	f.StringVar(&s.since, "since", "", "seen last at this time or later")
	f.StringVar(&s.before, "before", "", "seen last before this time")
	f.IntVar(&s.confidence, "confidence", 0, "at least this confidence, 0 to 99")
	f.IntVar(&s.limit, "limit", 100, "items on one page, at most 1000")
	f.StringVar(&s.cursor, "cursor", "", "continue after the page that printed this cursor, with its selection")
	f.BoolVar(&s.all, "all", false, "fetch all pages")
}

func (s *selectionFlags) toMessage() (*reportingv1.Selection, error) {
	out := &reportingv1.Selection{Group: s.group, Pattern: s.pattern, MinConfidence: int32(s.confidence)}
	if s.hosts != "" {
		p, err := netip.ParsePrefix(s.hosts)
		if err != nil {
			addr, err := netip.ParseAddr(s.hosts)
			if err != nil {
				return nil, cli.Usage(fmt.Errorf("--host %q is neither an address nor a prefix", s.hosts))
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		out.Hosts = p.String()
	}
	for _, t := range []struct {
		name, value string
		out         **timestamppb.Timestamp
	}{{"--since", s.since, &out.Since}, {"--before", s.before, &out.Before}} {
		at, err := timeFlag(t.name, t.value)
		if err != nil {
			return nil, err
		}
		if !at.IsZero() {
			*t.out = timestamppb.New(at)
		}
	}
	return out, nil
}

// fetchPages fetches one page, or all of them.
func fetchPages[T any](ctx context.Context, s *selectionFlags, fetch func(context.Context, *reportingv1.Selection, string, int) ([]T, string, error)) (items []T, next string, err error) {
	selection, err := s.toMessage()
	if err != nil {
		return nil, "", err
	}
	next = s.cursor
	for {
		var page []T
		if page, next, err = fetch(ctx, selection, next, s.limit); err != nil {
			return nil, "", err
		}
		items = append(items, page...)
		if next == "" || !s.all {
			return items, next, nil
		}
	}
}

func newGroupList() *cobra.Command {
	var where clearingFlags
	var which selectionFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the groups that have an entry of the selection",
		Example: "  dragnet group list --host 198.51.100.0/24 --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b...",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			groups, next, err := fetchPages(cmd.Context(), &which, c.ListGroups)
			if err != nil {
				return err
			}
			rows := cli.Rows[dossier.Group]{Header: []string{"group", "hosts", "first_seen", "last_seen", "sources", "confidence", "patterns"}, Cursor: next}
			for _, g := range groups {
				rows.Items = append(rows.Items, g)
				rows.Cells = append(rows.Cells, []string{g.ID, fmt.Sprint(g.Hosts), formatSecond(g.First), formatSecond(g.Last), fmt.Sprint(g.Sources), fmt.Sprint(g.Confidence), patternsText(&g)})
			}
			return writePage(cmd, *output, rows, next)
		},
	}
	output = cli.OutputFlag(cmd)
	where.addFlags(cmd, false)
	which.addFlags(cmd)
	return cmd
}

func patternsText(g *dossier.Group) string {
	text := strings.Join(g.Patterns, " | ")
	if g.Undisclosed > 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s | %d not disclosed", text, g.Undisclosed), " | ")
	}
	return text
}

// writePage prints a page, and on standard error how to get the next one.
func writePage[T any](cmd *cobra.Command, f cli.Format, rows cli.Rows[T], next string) error {
	if err := cli.WriteRows(cmd.OutOrStdout(), f, rows); err != nil {
		return err
	}
	if next != "" && f != cli.JSON {
		fmt.Fprintf(cmd.ErrOrStderr(), "there are more: continue with --cursor %s, or use --all\n", next)
	}
	return nil
}

func newGroupShow() *cobra.Command {
	var where clearingFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:     "show GROUP",
		Short:   "Show the hosts of a group",
		Example: "  dragnet group show f3kq7c2v --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b... -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			entries, _, err := fetchPages(cmd.Context(), &selectionFlags{group: args[0], limit: 1000, all: true}, c.ListEntries)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				return fmt.Errorf("no group %q is published now", args[0])
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, entryRows(entries, ""))
		},
	}
	output = cli.OutputFlag(cmd)
	where.addFlags(cmd, false)
	return cmd
}
