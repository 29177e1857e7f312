package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/decisions"
	nodev1 "dragnet/wire/node/v1"
)

func newAllow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "allow",
		Short: "Show and change who is never blocked",
		Long: `The allow list wins over every decision: while an entry lasts, nothing in its
prefix is blocked. An entry takes effect at once: decisions that it forbids end, and
agents follow with their next report, within seconds. Entries of the configuration
(decide.allow) are shown, and are changed there.`,
		Args: cobra.ArbitraryArgs,
		RunE: cli.Group,
	}
	cmd.AddCommand(newAllowList(), newAllowAdd(), newAllowRemove())
	return cmd
}

func newAllowList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List who is never blocked, and why",
		Example: "  dragnet allow list -o json",
		Args:    cobra.NoArgs,
	}
	output := cli.OutputFlag(cmd)
	runOnLedger(cmd, func(cmd *cobra.Command, book *openLedger, _ []string) error {
		got, err := book.decisions.ListAllowances(cmd.Context(), &nodev1.ListAllowancesRequest{})
		if err != nil {
			return book.explain(err, "")
		}
		return printAllowances(cmd, *output, got.Allowances...)
	})
	return cmd
}

func printAllowances(cmd *cobra.Command, f cli.Format, sent ...*nodev1.Allowance) error {
	all, err := readMessages(sent, decisions.ReadAllowance)
	if err != nil {
		return err
	}
	rows := cli.Rows[dossier.Allowance]{Header: []string{"prefix", "until", "who", "why"}}
	for _, a := range all {
		until := "no end"
		if a.Until != 0 {
			until = formatSecond(a.Until)
		}
		rows.Items = append(rows.Items, a)
		rows.Cells = append(rows.Cells, []string{a.Prefix.String(), until, a.Who, a.Why})
	}
	if len(rows.Items) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "nobody is on the allow list; 'dragnet allow add' puts somebody there")
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

func newAllowAdd() *cobra.Command {
	var why string
	var life time.Duration
	cmd := &cobra.Command{
		Use: "add PREFIX", Short: "Never block an address or prefix, and end what blocks it",
		Long: `Add puts an address or a prefix on the allow list, and prints the decisions that
end by it. An entry of the same prefix is replaced. 'allow remove' takes it back;
decisions that ended stay undone.`,
		Example: `  dragnet allow add 198.51.100.25 --why 'our mail relay' --for 720h
  dragnet allow add 192.0.2.0/24 --why 'monitoring, ticket 812'`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&why, "why", "", "why, for the record")
	f.DurationVar(&life, "for", 0, "how long (default: until it is removed)")
	output := cli.OutputFlag(cmd)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if why == "" {
			return cli.Usage(errors.New("--why is missing: say why, for the record"))
		}
		return nil
	}
	changeLedger(cmd, "record", func(cmd *cobra.Command, book *openLedger, who string, args []string) error {
		q := &nodev1.AddAllowanceRequest{Prefix: args[0], Why: why, Who: who}
		if cmd.Flags().Changed("for") {
			q.For = durationpb.New(life)
		}
		got, err := book.decisions.AddAllowance(cmd.Context(), q)
		if err != nil {
			return book.explain(err, "")
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is on the allow list; undo: dragnet allow remove %s\n", got.Allowance.Prefix, got.Allowance.Prefix)
		return printDecisions(cmd, *output, got.Ended...)
	})
	return cmd
}

func newAllowRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove PREFIX", Short: "Take an entry off the allow list",
		Example: "  dragnet allow remove 198.51.100.25",
		Args:    cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(cmd)
	changeLedger(cmd, "log", func(cmd *cobra.Command, book *openLedger, who string, args []string) error {
		got, err := book.decisions.RemoveAllowance(cmd.Context(), &nodev1.RemoveAllowanceRequest{Prefix: args[0], Who: who})
		if err != nil {
			return book.explain(err, "see 'dragnet allow list'")
		}
		return printAllowances(cmd, *output, got.Allowance)
	})
	return cmd
}
