package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"dragnet/ask/inquiry"
	"dragnet/internal/cli"
)

func newQuestionStatus() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "status [INQUIRY]",
		Short: "Show the progress of inquiries, or of one with each witness",
		Long: `Status shows the last inquiries with their state, such as "12 of 20 answered,
3 refused, 5 silent"; or one, by its number, with the state of each witness. It
works while an inquiry runs.`,
		Example: "  dragnet question status\n  dragnet question status 7 -o json",
		Args:    cobra.MaximumNArgs(1),
	}
	output, address := cli.OutputFlag(cmd), stateFlag(cmd)
	cmd.Flags().IntVar(&limit, "limit", 20, "list at most this many inquiries")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, db, err := openRecord(cmd.Context(), *address)
		if err != nil {
			return err
		}
		defer db.Close()
		if len(args) == 0 {
			all, err := r.List(cmd.Context(), limit)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "no question was asked that %s records\n", cmp.Or(*address, "~/.local/share/dragnet/questions.db"))
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, inquiryRows(all))
		}
		number, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return cli.Usage(fmt.Errorf("inquiry %q: want its number, from 'dragnet question status'", args[0]))
		}
		a, err := r.Show(cmd.Context(), number)
		if err != nil {
			return err
		}
		return writeInquiry(cmd.OutOrStdout(), *output, &a)
	}
	return cmd
}

func inquiryRows(all []inquiry.Recorded) cli.Rows[*inquiry.Recorded] {
	rows := cli.Rows[*inquiry.Recorded]{Header: []string{"inquiry", "started", "ended", "state", "pattern"}}
	for i := range all {
		a := &all[i]
		ended, what := "-", a.Pattern
		if a.Ended != nil {
			ended = formatSecond(*a.Ended)
		}
		rows.Items = append(rows.Items, a)
		rows.Cells = append(rows.Cells, []string{fmt.Sprint(a.Number), formatSecond(a.Started), ended, a.State, what})
	}
	return rows
}

func writeInquiry(w io.Writer, f cli.Format, a *inquiry.Recorded) error {
	rows := cli.Rows[*inquiry.RecordedWitness]{Header: []string{"witness", "status", "flows", "answers", "opened", "detail"}, Document: a}
	for i := range a.Witnesses {
		x := &a.Witnesses[i]
		rows.Items = append(rows.Items, x)
		rows.Cells = append(rows.Cells, []string{x.Name, string(x.Status), fmt.Sprint(x.Flows), fmt.Sprint(x.Answers), fmt.Sprint(x.Opened), x.Detail})
	}
	if f == cli.Table {
		fmt.Fprintf(w, "%s\n  %s\n\n", a.State, a.Pattern)
	}
	return cli.WriteRows(w, f, rows)
}

func newQuestionWitnesses() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "witnesses",
		Short: "Show how each witness has behaved so far",
		Long: `Witnesses summarises the record by witness: how often it answered, and what
speaks against it. A lie is an answer to a decoy that opened; a spray is a
testimony with far more answers than an honest witness would give, judged by what
others of its size answer and what it said before; it counts for nothing.`,
		Args: cobra.NoArgs,
	}
	output, address := cli.OutputFlag(cmd), stateFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, db, err := openRecord(cmd.Context(), *address)
		if err != nil {
			return err
		}
		defer db.Close()
		all, err := r.Honesty(cmd.Context())
		if err != nil {
			return err
		}
		rows := cli.Rows[*inquiry.Honesty]{Header: []string{"witness", "asked", "answered", "refused", "missing", "forged", "replayed", "decoys", "lies", "sprays"}}
		for i := range all {
			h := &all[i]
			rows.Items = append(rows.Items, h)
			row := []string{h.Name}
			for _, n := range []int{h.Asked, h.Answered, h.Refused, h.Missing, h.Forged, h.Replayed, h.Decoys, h.Lies, h.Sprays} {
				row = append(row, strconv.Itoa(n))
			}
			rows.Cells = append(rows.Cells, row)
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
	}
	return cmd
}

var errNoAuditLog = errors.New("this node has no audit log: no question has been asked yet")
