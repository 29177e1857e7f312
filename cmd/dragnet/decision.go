package main

import (
	"context"
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

func newDecision() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decision",
		Short: "Show who is blocked and why; approve, undo, stop",
		Long: `A decision blocks a host: it says why, until when, who approved it, and how to
undo it. 'decision stop' ends all decisions and refuses new ones until 'decision
resume'; agents follow with their next report, within seconds.`,
		Args: cobra.ArbitraryArgs,
		RunE: cli.Group,
	}
	cmd.AddCommand(newDecisionList(), newDecisionShow(), newDecisionPropose(), newDecisionApprove(), newDecisionUndo(), newDecisionStop(), newDecisionResume())
	return cmd
}

func newDecisionList() *cobra.Command {
	var verdict string
	var most uint32
	cmd := &cobra.Command{
		Use: "list", Short: "List decisions, the latest first",
		Example: `  dragnet decision list
  dragnet decision list --verdict proposed`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&verdict, "verdict", "", "only decisions with this verdict: proposed, dry-run, active, refused, undone, expired or stopped")
	cli.CompleteFlag(cmd, "verdict", "proposed", "dry-run", "active", "refused", "undone", "expired", "stopped")
	cmd.Flags().Uint32Var(&most, "limit", 100, "list at most this many, up to 10000")
	output := cli.OutputFlag(cmd)
	runOnLedger(cmd, func(cmd *cobra.Command, book *openLedger, _ []string) error {
		got, err := book.decisions.ListDecisions(cmd.Context(), &nodev1.ListDecisionsRequest{Verdict: verdict, Limit: most})
		if err != nil {
			return book.explain(err, "")
		}
		if s := got.Stopped; s != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "decisions were stopped at %s by %s: %s\n", s.Time.AsTime().Format(time.RFC3339), s.Who, s.Why)
		}
		return printDecisions(cmd, *output, got.Decisions...)
	})
	return cmd
}

func printDecisions(cmd *cobra.Command, f cli.Format, sent ...*nodev1.Decision) error {
	all, err := readMessages(sent, decisions.ReadDecision)
	if err != nil {
		return err
	}
	rows := cli.Rows[dossier.Decision]{Header: []string{"id", "target", "verdict", "until", "by", "why"}}
	for _, d := range all {
		target := d.Target.String()
		if d.Standing != nil {
			target = fmt.Sprintf("rule %s, at most %d", d.Standing.Rule, d.Standing.Most)
			if d.Standing.Signature != "" {
				target = fmt.Sprintf("rule %s %s, senders in %s, at most %d", d.Standing.Rule, d.Standing.Signature, d.Target, d.Standing.Most)
			}
		}
		rows.Items = append(rows.Items, d)
		rows.Cells = append(rows.Cells, []string{d.ID, target, string(d.Verdict), formatSecond(d.Until), d.Steps[len(d.Steps)-1].Who, d.Why})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

func newDecisionShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show the history of a decision, and where it took effect",
		Example: "  dragnet decision show 5TQ3ZHNEW7AFKXQ2",
		Args:    cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(cmd)
	runOnLedger(cmd, func(cmd *cobra.Command, book *openLedger, args []string) error {
		got, err := book.decisions.GetDecision(cmd.Context(), &nodev1.GetDecisionRequest{Id: args[0]})
		if err != nil {
			return book.explain(err, "see 'dragnet decision list'")
		}
		d, err := decisions.ReadDecision(got.Decision)
		if err != nil {
			return err
		}
		receipts, err := readMessages(got.Receipts, decisions.ReadReceipt)
		if err != nil {
			return err
		}
		if *output != cli.Table {
			return cli.WriteJSON(cmd.OutOrStdout(), struct {
				Decision dossier.Decision  `json:"decision"`
				Receipts []dossier.Receipt `json:"receipts"`
			}{d, receipts})
		}
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "%s %s until %s: %s\nwhy:  %s\nundo: %s\n", d.ID, d.Target, formatSecond(d.Until), d.Verdict, d.Why, d.Undo)
		for _, f := range d.Findings {
			fmt.Fprintln(out, "finding:", f)
		}
		for _, s := range d.Steps {
			fmt.Fprintf(out, "%s %s by %s: %s\n", formatSecond(s.Time), s.Verdict, s.Who, s.Why)
		}
		for _, r := range receipts {
			fmt.Fprintf(out, "%s at %s: applied %v; %s%s\n", formatSecond(r.Time), r.Point, r.Applied, r.Proof, r.Problem)
		}
		return nil
	})
	return cmd
}

func newDecisionPropose() *cobra.Command {
	var why string
	var ttl time.Duration
	var findings []string
	var signature string
	var most uint32
	cmd := &cobra.Command{
		Use: "propose [TARGET]", Short: "Propose to block an address or prefix, or to reset what a signature matches",
		Long: `Propose asks the judge to block a source, within its rules: the allow list, the ban
budget, approval, and whether decisions are enforced at all. It prints what the
judge says. A proposal that waits is let through by 'decision approve'. Without
TARGET it is the host of the first finding named.

With --signature no host is blocked: connections are reset that carry what this
signature of the node's centre matches, whose senders lie in TARGET (default: all),
at sensors that have 'payload.reset' set. The signature is set aside as it is now:
if the centre learns another one, that is another decision. --most, the number of
senders in an hour, is charged to the ban budget, and divided among the sensors.`,
		Example: `  dragnet decision propose 203.0.113.17 --why 'floods while tenant-x measures' --for 2h
  dragnet decision propose --finding 5TQ3ZHNEW7AFKXQ2 --why 'spreads a worm'
  dragnet decision propose --signature trap-tcp-80-1a2b3c4d --most 20 --why 'read it; it is the worm of last night'`,
		Args: cobra.MaximumNArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&why, "why", "", "why, for the record and for those affected")
	f.DurationVar(&ttl, "for", 0, "how long (default: decide.ttl of the node)")
	f.StringArrayVar(&findings, "finding", nil, "identifier of a finding it is based on; repeat for each")
	f.StringVar(&signature, "signature", "", "reset connections that carry what this signature matches ('dragnet signature centre' lists them)")
	f.Uint32Var(&most, "most", 10, "with --signature: reset connections of at most this many senders in an hour")
	output := cli.OutputFlag(cmd)
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 && len(findings) == 0 && signature == "" {
			return cli.Usage(errors.New("name a target, a finding with --finding, or a signature with --signature"))
		}
		if why == "" {
			return cli.Usage(errors.New("--why is missing: say why, for those who are affected"))
		}
		return nil
	}
	changeLedger(cmd, "record", func(cmd *cobra.Command, book *openLedger, who string, args []string) error {
		q := &nodev1.ProposeDecisionRequest{Why: why, Who: who, Findings: findings, Signature: signature, Most: most}
		if len(args) > 0 {
			q.Target = args[0]
		}
		if ttl != 0 {
			q.For = durationpb.New(ttl)
		}
		got, err := book.decisions.ProposeDecision(cmd.Context(), q)
		if err != nil {
			return book.explain(err, "see 'dragnet finding list' and 'dragnet signature centre'")
		}
		for _, w := range got.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
		}
		if err := printDecisions(cmd, *output, got.Decision); err != nil || got.Refused == "" {
			return err
		}
		return errors.New(got.Refused)
	})
	return cmd
}

func newDecisionApprove() *cobra.Command {
	return decisionVerb("approve ID...", "Let proposed decisions take effect", false,
		func(ctx context.Context, book *openLedger, id, who, _ string) (*nodev1.Decision, error) {
			got, err := book.decisions.ApproveDecision(ctx, &nodev1.ApproveDecisionRequest{Id: id, Who: who})
			return got.GetDecision(), err
		})
}

func newDecisionUndo() *cobra.Command {
	return decisionVerb("undo ID...", "Undo decisions, or refuse proposed ones", true,
		func(ctx context.Context, book *openLedger, id, who, why string) (*nodev1.Decision, error) {
			got, err := book.decisions.UndoDecision(ctx, &nodev1.UndoDecisionRequest{Id: id, Who: who, Why: why})
			return got.GetDecision(), err
		})
}

// decisionVerb changes decisions one after the other, and prints them.
func decisionVerb(use, short string, reasons bool, do func(ctx context.Context, book *openLedger, id, who, why string) (*nodev1.Decision, error)) *cobra.Command {
	var why string
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.MinimumNArgs(1)}
	if reasons {
		cmd.Flags().StringVar(&why, "why", "undone by an operator", "why, for the record")
	}
	output := cli.OutputFlag(cmd)
	changeLedger(cmd, "record", func(cmd *cobra.Command, book *openLedger, who string, args []string) error {
		var all []*nodev1.Decision
		for _, id := range args {
			d, err := do(cmd.Context(), book, id, who, why)
			if err != nil { // what took effect before is shown
				if len(all) > 0 {
					err = errors.Join(err, printDecisions(cmd, *output, all...))
				}
				return book.explain(err, "see 'dragnet decision list'")
			}
			all = append(all, d)
		}
		return printDecisions(cmd, *output, all...)
	})
	return cmd
}

func newDecisionStop() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "stop", Short: "End all decisions, and refuse new ones until resume",
		Example: "  dragnet decision stop --why 'blocked the mail server'",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&why, "why", "an operator stopped everything", "why, for the record")
	changeLedger(cmd, "record", func(cmd *cobra.Command, book *openLedger, who string, _ []string) error {
		if _, err := book.decisions.StopDecisions(cmd.Context(), &nodev1.StopDecisionsRequest{Who: who, Why: why}); err != nil {
			return book.explain(err, "")
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "all decisions are stopped; 'dragnet decision resume' allows new ones")
		return nil
	})
	return cmd
}

func newDecisionResume() *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume", Short: "Allow new decisions again after a stop",
		Long: "Resume allows new decisions again. Those that were stopped stay stopped.",
		Args: cobra.NoArgs,
	}
	changeLedger(cmd, "log", func(cmd *cobra.Command, book *openLedger, who string, _ []string) error {
		if _, err := book.decisions.ResumeDecisions(cmd.Context(), &nodev1.ResumeDecisionsRequest{Who: who}); err != nil {
			return book.explain(err, "")
		}
		return nil
	})
	return cmd
}
