package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/admin"
	"dragnet/internal/cli"
	nodev1 "dragnet/wire/node/v1"
)

// nodeStatus is what a node says of itself.
type nodeStatus struct {
	Version int            `json:"version"`
	Release string         `json:"release"`
	Commit  string         `json:"commit"`
	Started time.Time      `json:"started"`
	Parts   []admin.Status `json:"parts"`
}

func newStatus() *cobra.Command {
	at := &nodeFlags{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether a running node does its work, and what needs attention",
		Long: `Status asks every part of a running node how it does: the store and the room on
its disk, the sources and what was lost of them, decisions that wait for a person, a
stop, guards and agents that are silent, the roster's end, and the questions of the
last day. Parts that failed come first. The exit code is 3 unless all is well.

Without --node it asks the node that $DRAGNET_NODE or the context names, or one on
this machine.`,
		Example: `  dragnet status
  dragnet status --node https://node.example.org:9121 -o json`,
		Args: cobra.NoArgs,
	}
	at.addNodeFlag(cmd)
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if at.node == "" {
			if at.node = findNode(); at.node == "" {
				return cli.Hint(errors.New("no node runs on this machine"), "name one with --node, or start one: dragnet run node")
			}
		}
		client, err := at.dialNode()
		if err != nil {
			return err
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), answerWithin)
		defer cancel()
		got, err := client.Status.GetStatus(ctx, &nodev1.GetStatusRequest{})
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return cli.Hint(fmt.Errorf("%s: no answer within %v", at.node, answerWithin), "the node runs but hangs: 'dragnet support dump' collects what is known of it")
		}
		if err != nil {
			return at.explainError(err)
		}
		return printStatus(cmd, *output, got)
	}
	return cmd
}

// readStatus reads a node's answer.
func readStatus(got *nodev1.GetStatusResponse) nodeStatus {
	s := nodeStatus{1, got.Release, got.Commit, got.Started.AsTime(), []admin.Status{}}
	for _, p := range got.Parts {
		s.Parts = append(s.Parts, admin.Status{Part: p.Part, Level: admin.Level(p.Level), Text: p.Text, Hint: p.Hint})
	}
	return s
}

// writeStatusText writes a status for people.
func writeStatusText(w io.Writer, s nodeStatus) error {
	_, err := fmt.Fprintf(w, "dragnet %s, started %s\n", s.Release, s.Started.Format(time.RFC3339))
	for _, p := range s.Parts {
		fmt.Fprintf(w, "%-10s %-10s %s\n", p.Level, p.Part, p.Text)
		if p.Hint != "" {
			fmt.Fprintf(w, "%21s %s\n", "", p.Hint)
		}
	}
	return err
}

func printStatus(cmd *cobra.Command, f cli.Format, got *nodev1.GetStatusResponse) error {
	s := readStatus(got)
	rows := cli.Rows[admin.Status]{Header: []string{"part", "level", "text", "hint"}}
	notOK := 0
	for _, p := range s.Parts {
		if p.Level != admin.OK {
			notOK++
		}
		rows.Items = append(rows.Items, p)
		rows.Cells = append(rows.Cells, []string{p.Part, string(p.Level), p.Text, p.Hint})
	}
	out := cmd.OutOrStdout()
	var err error
	switch f {
	case cli.JSON:
		err = cli.WriteJSON(out, s)
	case cli.Table:
		err = writeStatusText(out, s)
	default:
		err = cli.WriteRows(out, f, rows)
	}
	if err == nil && notOK > 0 {
		err = cli.Found(fmt.Errorf("%d of %d parts need attention", notOK, len(s.Parts)))
	}
	return err
}
