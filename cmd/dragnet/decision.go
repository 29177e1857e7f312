package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/centre"
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
	var most int
	cmd := &cobra.Command{
		Use: "list", Short: "List decisions, the latest first",
		Example: `  dragnet decision list
  dragnet decision list --verdict proposed`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&verdict, "verdict", "", "only decisions with this verdict: proposed, dry-run, active, refused, undone, expired or stopped")
	cmd.Flags().IntVar(&most, "limit", 100, "list at most this many")
	open := ledgerFlags(cmd)
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		all, err := book.Decisions(cmd.Context(), dossier.Verdict(verdict), most)
		if err != nil {
			return err
		}
		if at, who, why, err := book.Stopped(cmd.Context()); err != nil {
			return err
		} else if who != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "decisions were stopped at %s by %s: %s\n", formatSecond(at), who, why)
		}
		return printDecisions(cmd, *output, all)
	}
	return cmd
}

func printDecisions(cmd *cobra.Command, f cli.Format, all []dossier.Decision) error {
	rows := cli.Rows{Header: []string{"id", "target", "verdict", "until", "by", "why"}}
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
	open := ledgerFlags(cmd)
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		d, err := book.Decision(cmd.Context(), args[0])
		if err != nil {
			return cli.Hint(err, "see 'dragnet decision list'")
		}
		receipts, err := book.Receipts(cmd.Context(), d.ID)
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
	}
	return cmd
}

func newDecisionPropose() *cobra.Command {
	var who, why string
	var ttl time.Duration
	var findings []string
	var signature string
	var most int
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
	f.StringVar(&who, "who", "", "who does this, for the record (default: the user)")
	f.DurationVar(&ttl, "for", 0, "how long (default: decide.ttl of the node)")
	f.StringArrayVar(&findings, "finding", nil, "identifier of a finding it is based on; repeat for each")
	f.StringVar(&signature, "signature", "", "reset connections that carry what this signature matches ('dragnet signature centre' lists them)")
	f.IntVar(&most, "most", 10, "with --signature: reset connections of at most this many senders in an hour")
	open := ledgerFlags(cmd)
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && len(findings) == 0 && signature == "" {
			return cli.Usage(errors.New("name a target, a finding with --finding, or a signature with --signature"))
		}
		if why == "" {
			return cli.Usage(errors.New("--why is missing: say why, for those who are affected"))
		}
		var target netip.Prefix
		if len(args) > 0 {
			var err error
			if target, err = parseTarget(args[0]); err != nil {
				return cli.Usage(err)
			}
		}
		name, err := operatorName(who)
		if err != nil {
			return err
		}
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		if target, err = checkFindings(cmd, book, target, findings); err != nil {
			return err
		}
		standing, err := resetStanding(cmd, signature, most)
		if err != nil {
			return err
		}
		if standing != nil && len(args) == 0 {
			target = netip.MustParsePrefix("0.0.0.0/0") // everybody, of both families
		}
		var d dossier.Decision
		var refused error
		err = book.Judge(cmd.Context(), currentTime(), func(j *decide.Judge) error {
			d, refused = j.Propose(currentTime(), dossier.Proposal{Target: target, Who: name, Why: why, TTL: ttl, Findings: findings, Standing: standing})
			return nil // a refusal is kept, too
		})
		if err != nil {
			return err
		}
		if d.ID != "" {
			if err := printDecisions(cmd, *output, []dossier.Decision{d}); err != nil {
				return err
			}
		}
		return refused
	}
	return cmd
}

// resetStanding sets a signature aside, and returns the standing decision about it;
// nil if none is named.
func resetStanding(cmd *cobra.Command, name string, most int) (*dossier.Standing, error) {
	if name == "" {
		return nil, nil
	}
	data, err := cmd.Flags().GetString("data")
	if err != nil {
		return nil, err
	}
	db, err := openState(cmd.Context(), data)
	if err != nil {
		return nil, err
	}
	aside, err := centre.SetAside(cmd.Context(), db, name)
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, cli.Hint(err, "see 'dragnet signature centre'")
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "warning: a trap chooses what its signatures are learnt from; look at the signature, and at the findings that it made, before you approve")
	return &dossier.Standing{Rule: dossier.RuleReset, Most: most, Signature: aside}, nil
}

// checkFindings reads the findings that a proposal names, and returns its target.
func checkFindings(cmd *cobra.Command, book *ledger.Ledger, target netip.Prefix, ids []string) (netip.Prefix, error) {
	weak := len(ids) > 0
	for _, id := range ids {
		f, err := book.Finding(cmd.Context(), id)
		if err != nil {
			return target, cli.Hint(err, "see 'dragnet finding list'")
		}
		if !target.IsValid() {
			target = netip.PrefixFrom(f.Addr, f.Addr.BitLen())
		}
		weak = weak && f.IsWeak()
	}
	if weak {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: this rests only on what a trap sent, or a signature learnt from it matches; a trap that was taken over can send anything")
	}
	return target, nil
}

// parseTarget reads an address or a prefix.
func parseTarget(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a prefix such as 203.0.113.0/28", text)
	}
	return p.Masked(), nil
}

func newDecisionApprove() *cobra.Command {
	return decisionVerb("approve ID...", "Let proposed decisions take effect", false,
		func(book *ledger.Ledger, cmd *cobra.Command, id, who, _ string) (dossier.Decision, error) {
			return book.Approve(cmd.Context(), currentTime(), id, who)
		})
}

func newDecisionUndo() *cobra.Command {
	return decisionVerb("undo ID...", "Undo decisions, or refuse proposed ones", true,
		func(book *ledger.Ledger, cmd *cobra.Command, id, who, why string) (dossier.Decision, error) {
			return book.Undo(cmd.Context(), currentTime(), id, who, why)
		})
}

func currentTime() flow.Time { return flow.FromTime(time.Now()) }

// decisionVerb changes decisions one after the other, and prints them.
func decisionVerb(use, short string, reasons bool, do func(*ledger.Ledger, *cobra.Command, string, string, string) (dossier.Decision, error)) *cobra.Command {
	var who, why string
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.MinimumNArgs(1)}
	cmd.Flags().StringVar(&who, "who", "", "who does this, for the record (default: the user)")
	if reasons {
		cmd.Flags().StringVar(&why, "why", "undone by an operator", "why, for the record")
	}
	open := ledgerFlags(cmd)
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := operatorName(who)
		if err != nil {
			return err
		}
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		var all []dossier.Decision
		for _, id := range args {
			d, err := do(book, cmd, id, name, why)
			if err != nil {
				return cli.Hint(err, "see 'dragnet decision list'")
			}
			all = append(all, d)
		}
		return printDecisions(cmd, *output, all)
	}
	return cmd
}

func newDecisionStop() *cobra.Command {
	var who, why string
	cmd := &cobra.Command{
		Use: "stop", Short: "End all decisions, and refuse new ones until resume",
		Example: "  dragnet decision stop --why 'blocked the mail server'",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&who, "who", "", "who does this, for the record (default: the user)")
	cmd.Flags().StringVar(&why, "why", "an operator stopped everything", "why, for the record")
	open := ledgerFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		name, err := operatorName(who)
		if err != nil {
			return err
		}
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		if err := book.Stop(cmd.Context(), currentTime(), name, why); err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "all decisions are stopped; 'dragnet decision resume' allows new ones")
		return nil
	}
	return cmd
}

func newDecisionResume() *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume", Short: "Allow new decisions again after a stop",
		Long: "Resume allows new decisions again. Those that were stopped stay stopped.",
		Args: cobra.NoArgs,
	}
	open := ledgerFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		return book.Resume(cmd.Context())
	}
	return cmd
}
