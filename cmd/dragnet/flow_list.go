package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
)

// listedFlow is the JSON form of a flow; see flow.Flow for what a field means.
type listedFlow struct {
	Start     flow.Time  `json:"start_time"`
	End       flow.Time  `json:"end_time"`
	Src       netip.Addr `json:"src_addr"`
	SrcPort   uint16     `json:"src_port"`
	Dst       netip.Addr `json:"dst_addr"`
	DstPort   uint16     `json:"dst_port"`
	Proto     string     `json:"proto"`
	State     string     `json:"conn_state"`
	OrigBytes uint64     `json:"bytes_orig"`
	RespBytes uint64     `json:"bytes_resp"`
	OrigPkts  uint64     `json:"pkts_orig"`
	RespPkts  uint64     `json:"pkts_resp"`
	History   string     `json:"history"`
}

// listed takes the bytes from the IP header on, where the source counted them.
func listed(f *flow.Flow) listedFlow {
	l := listedFlow{
		Start: f.Start, End: f.End(), Src: f.Orig, SrcPort: f.OrigPort, Dst: f.Resp, DstPort: f.RespPort,
		Proto: f.Proto.String(), State: f.State.String(), OrigBytes: f.OrigIPBytes, RespBytes: f.RespIPBytes,
		OrigPkts: f.OrigPkts, RespPkts: f.RespPkts, History: f.History,
	}
	if !f.Known.Has(flow.Counts) {
		l.OrigBytes, l.RespBytes = f.OrigBytes, f.RespBytes
	}
	return l
}

func (l *listedFlow) cells() []string {
	return []string{
		l.Start.String(), l.End.String(), l.Src.String(), fmt.Sprint(l.SrcPort), l.Dst.String(), fmt.Sprint(l.DstPort), l.Proto, l.State,
		fmt.Sprint(l.OrigBytes), fmt.Sprint(l.RespBytes), fmt.Sprint(l.OrigPkts), fmt.Sprint(l.RespPkts), l.History,
	}
}

// compare orders by time, and then so that equal input prints equal output.
func (l listedFlow) compare(o listedFlow) int {
	return cmp.Or(cmp.Compare(l.Start, o.Start), l.Src.Compare(o.Src), l.Dst.Compare(o.Dst), cmp.Compare(l.SrcPort, o.SrcPort), cmp.Compare(l.DstPort, o.DstPort))
}

func newFlowList() *cobra.Command {
	var s selection
	var limit int
	var last bool
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "list DATADIR [FILTER]",
		Short: "Print stored flows in order of time",
		Long: `List prints the stored flows that fit a filter, in order of time: the first
--limit of them, or with --last the last. With --limit 0 it prints all, as JSON
lines, in the order in which they are read.

` + filterHelp,
		Example: `  dragnet flow list /var/lib/dragnet dport=22 state=failed --last
  dragnet flow list /var/lib/dragnet host=198.51.100.7 --from 2026-11-22 --limit 0 -o jsonl`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.parse(args[1:]); err != nil {
				return err
			}
			switch {
			case limit < 0:
				return cli.Usage(fmt.Errorf("--limit %d: want 0 or more", limit))
			case limit == 0 && *output != cli.JSONL:
				return cli.Usage(fmt.Errorf("--limit 0 prints JSON lines: add -o jsonl"))
			case limit == 0:
				enc := json.NewEncoder(cmd.OutOrStdout())
				return s.each(cmd, args[0], flow.AllColumns, func(f *flow.Flow) error { return enc.Encode(listed(f)) })
			}
			return listSome(cmd, *output, &s, args[0], limit, last)
		},
	}
	output = cli.OutputFlag(cmd)
	s.register(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "print at most this many; 0 prints all")
	cmd.Flags().BoolVar(&last, "last", false, "the last ones rather than the first")
	return cmd
}

// listSome keeps at most twice limit flows at a time.
func listSome(cmd *cobra.Command, format cli.Format, s *selection, dir string, limit int, last bool) error {
	var kept []listedFlow
	trim := func() {
		slices.SortFunc(kept, listedFlow.compare)
		if extra := len(kept) - limit; extra > 0 && last {
			kept = slices.Delete(kept, 0, extra)
		} else if extra > 0 {
			kept = kept[:limit]
		}
	}
	err := s.each(cmd, dir, flow.AllColumns, func(f *flow.Flow) error {
		if kept = append(kept, listed(f)); len(kept) >= 2*limit {
			trim()
		}
		return nil
	})
	if err != nil {
		return err
	}
	trim()
	rows := cli.Rows{Header: []string{"start", "end", "src", "sport", "dst", "dport", "proto", "state", "bytes", "bytes back", "pkts", "pkts back", "history"}}
	for _, l := range kept {
		rows.Items = append(rows.Items, l)
		rows.Cells = append(rows.Cells, l.cells())
	}
	return cli.WriteRows(cmd.OutOrStdout(), format, rows)
}
