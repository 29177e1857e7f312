package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/query"
	nodev1 "dragnet/wire/node/v1"
)

// toMessage returns the selection as a node reads it.
func (s *selection) toMessage() *nodev1.Selection {
	m := &nodev1.Selection{Filter: s.text, Files: s.files}
	query.WindowMessage(s.window, m)
	return m
}

// listFrom fetches pages from a node until it has limit rows.
func (s *selection) listFrom(cmd *cobra.Command, limit int, last bool) ([]query.ListedFlow, error) {
	client, err := s.at.dialNode()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var rows []query.ListedFlow
	for q := (&nodev1.ListFlowsRequest{Selection: s.toMessage(), Last: last}); ; {
		q.PageSize = uint32(min(limit-len(rows), query.MaxPage))
		page, err := client.Flows.ListFlows(cmd.Context(), q)
		if err != nil {
			return nil, s.at.explainError(err)
		}
		part, err := rowsOf(page.Flows)
		if err != nil {
			return nil, err
		}
		if last {
			rows = slices.Concat(part, rows)
		} else {
			rows = append(rows, part...)
		}
		if page.NextCursor == "" || len(rows) >= limit {
			printProblems(cmd, page.Problems)
			return rows, nil
		}
		q = &nodev1.ListFlowsRequest{Cursor: page.NextCursor}
	}
}

func rowsOf(messages []*nodev1.Flow) ([]query.ListedFlow, error) {
	rows := make([]query.ListedFlow, len(messages))
	for i, m := range messages {
		var err error
		if rows[i], err = query.RowFrom(m); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// printProblems prints what a node could not read.
func printProblems(cmd *cobra.Command, problems []string) {
	for _, p := range problems {
		fmt.Fprintln(cmd.ErrOrStderr(), p)
	}
}

// streamFrom calls fn with all selected flows of a node.
func (s *selection) streamFrom(cmd *cobra.Command, fn func(*query.ListedFlow) error) (err error) {
	client, err := s.at.dialNode()
	if err != nil {
		return err
	}
	defer client.Close()
	stream, err := client.Flows.StreamFlows(cmd.Context(), &nodev1.StreamFlowsRequest{Selection: s.toMessage()})
	if err != nil {
		return s.at.explainError(err)
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	progress := cli.NewProgress("reading flows", 0)
	defer progress.Done()
	for stream.Receive() {
		rows, err := rowsOf(stream.Msg().Flows)
		if err != nil {
			return err
		}
		progress.Add(int64(len(rows)))
		for i := range rows {
			if err := fn(&rows[i]); err != nil {
				return err
			}
		}
		printProblems(cmd, stream.Msg().Problems)
	}
	if err := stream.Err(); err != nil {
		return s.at.explainError(err)
	}
	return nil
}

// countFrom counts at a node.
func (s *selection) countFrom(cmd *cobra.Command, by string, top int) ([]query.GroupCount, error) {
	client, err := s.at.dialNode()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	got, err := client.Flows.CountFlows(cmd.Context(), &nodev1.CountFlowsRequest{Selection: s.toMessage(), By: by, Top: uint32(top)})
	if err != nil {
		return nil, s.at.explainError(err)
	}
	printProblems(cmd, got.Problems)
	tallies := make([]query.GroupCount, len(got.Tallies))
	for i, m := range got.Tallies {
		if tallies[i], err = query.TallyFrom(m); err != nil {
			return nil, err
		}
	}
	return tallies, nil
}
