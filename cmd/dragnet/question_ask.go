package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/internal/cli"
	"dragnet/node/hunt"
)

// askCommand holds the flags of 'question ask'.
type askCommand struct {
	ask      askFlags
	network  networkFlags
	whom     witnessFlags
	quorum   int
	fraction float64
	ownWord  bool
	decoys   int
	force    bool
	wait     time.Duration
	again    time.Duration
	finding  string
	yes      bool
	book     func() (*openLedger, error)
	state    *string
	output   *cli.Format
}

func newQuestionAsk() *cobra.Command {
	var a askCommand
	cmd := &cobra.Command{
		Use:   "ask (PATTERN | --finding ID) --book FILE --key FILE (--all | --near ADDR | --random N | -w NAME...)",
		Short: "Ask witnesses over the network, on record",
		Long: `Ask puts a pattern to witnesses of other organisations, each reached at the URL
in the book or over one of its relays, and prints the group that results. The
questions and their outcome are recorded; 'dragnet question status' shows them at
any time, also from another terminal.

A host is believed if --quorum independent witnesses name it: those who share an
organisation, an AS or a class of the roster count once, and all witnesses for
which neither the book nor the roster names one count once together. A witness of the book is also believed alone about hosts of its own
networks, unless --own-word=false. The result says for each host which of the
two applies: quorum or own-word.

A value that was asked before is hashed with the salts of the day when it was
first asked; two different hashes of it would reveal more than one.

With --finding the pattern is made of what a finding shows: for one of a trap, the
hosts that the attacker contacted and that then contacted what the honeypot did
when it was taken over. The pattern is printed, with how many values share each
key that is sent, and asked when you confirm it; --yes confirms it beforehand.

` + patternHelp,
		Example: `  dragnet question ask 'out dst=198.51.100.7 proto=udp dport=69' --book book.yaml --key detective.key --all
  dragnet question ask 'in src=203.0.113.5 dport=1433' --book book.yaml --key detective.key --near 192.0.2.7 --stage 3 -k 2
  dragnet question ask --finding 5TQ3ZHNEW7AFKXQ2 --book book.yaml --key detective.key --all`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := a.findPattern(cmd, args)
		if err != nil {
			return err
		}
		return a.askWitnesses(cmd, p)
	}
	a.output, a.state = cli.OutputFlag(cmd), stateFlag(cmd)
	a.ask.addFlags(cmd)
	a.network.addFlags(cmd)
	a.whom.addFlags(cmd)
	f := cmd.Flags()
	f.IntVarP(&a.quorum, "quorum", "k", 2, "believe a host only if this many independent witnesses name it")
	f.Float64Var(&a.fraction, "fraction", 0, "and at least this share (0 to 1) of the independent witnesses asked")
	f.BoolVar(&a.ownWord, "own-word", true, "believe a witness of the book alone about hosts of its own networks")
	f.IntVar(&a.decoys, "decoys", 0, "also ask this many decoys, about traffic that never happened, to find witnesses that invent")
	f.DurationVar(&a.wait, "wait", 0, "ask those again, for this long, that want another organisation to ask the same")
	f.DurationVar(&a.again, "again", inquiry.DefaultConfiguration().Again, "how often, with --wait")
	f.StringVar(&a.finding, "finding", "", "make the pattern of this finding of our node ('dragnet finding list')")
	f.BoolVar(&a.yes, "yes", false, "ask the pattern of a finding without confirmation")
	a.book = ledgerFlags(cmd)
	f.BoolVar(&a.force, "force", false, "ask even if a key gives the pattern away")
	return cmd
}

// findPattern returns the pattern that was given, or that of the finding.
func (a *askCommand) findPattern(cmd *cobra.Command, args []string) (*pattern.Pattern, error) {
	if (len(args) == 0) == (a.finding == "") {
		return nil, cli.Usage(errors.New("give a pattern, or a finding with --finding"))
	}
	if a.finding == "" {
		return parsePattern(args[0])
	}
	book, err := a.book()
	if err != nil {
		return nil, err
	}
	f, err := book.Finding(cmd.Context(), a.finding)
	if err := errors.Join(err, book.Close()); err != nil {
		return nil, cli.Hint(err, "see 'dragnet finding list'")
	}
	return f.Pattern()
}

// confirmPattern shows a pattern that was derived, and what the question gives
// away, and asks whether to send it.
func (a *askCommand) confirmPattern(cmd *cobra.Command, c *detective.Configuration, p *pattern.Pattern) error {
	inquiry, err := detective.New(*c, p)
	if err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "pattern: %s\n", p)
	for _, k := range inquiry.Meter() {
		fmt.Fprintf(w, "the key of %q leaves a reader %s\n", k.Clue, formatCandidates(k.Hidden()))
	}
	if a.yes {
		return nil
	}
	fmt.Fprint(w, "ask the witnesses this? [y/N] ")
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return cli.Hint(errors.New("not asked"), "change the pattern and give it to 'dragnet question ask' instead, or confirm with --yes")
	}
	return nil
}

func (a *askCommand) askWitnesses(cmd *cobra.Command, p *pattern.Pattern) error {
	c, err := a.network.makeConfiguration()
	if err != nil {
		return err
	}
	if err := a.whom.setSelection(&c); err != nil {
		return err
	}
	if c.Detective, err = a.ask.makeConfiguration(p); err != nil {
		return cli.Usage(err)
	}
	if err := readRoster(cmd.Context(), cmd.ErrOrStderr(), &c); err != nil {
		return err
	}
	c.Detective.Quorum, c.Detective.Fraction, c.Detective.OwnWord = a.quorum, a.fraction, a.ownWord
	record, db, err := openRecord(cmd.Context(), *a.state)
	if err != nil {
		return err
	}
	defer db.Close()
	if a.ask.epoch == "" {
		if c.Detective.Epoch, err = publishedEpoch(cmd.Context(), &c, c.Detective.Epoch); err != nil {
			return err
		}
		if err := keepEpoch(cmd.Context(), cmd.ErrOrStderr(), record, &c.Detective, p); err != nil {
			return err
		}
		if err := a.ask.fitHash(&c.Detective, p); err != nil {
			return cli.Usage(err)
		}
	}
	if a.finding != "" {
		if err := a.confirmPattern(cmd, &c.Detective, p); err != nil {
			return err
		}
	}
	if c.Wait, c.Again = a.wait, a.again; c.Again < time.Second || c.Wait < 0 {
		return cli.Usage(errors.New("--wait cannot be negative, nor --again less than a second"))
	}
	if !a.force {
		c.Asking = refuseBelowFloor
	}
	return a.askAll(cmd, record, c, p)
}

// epochDays is how long witnesses accept salts by default (ask/witness/policy).
const epochDays = 30

// keepEpoch asks what was asked before under the salts of its first time.
func keepEpoch(ctx context.Context, w io.Writer, r *inquiry.History, c *detective.Configuration, p *pattern.Pattern) error {
	epoch, others, err := r.FirstEpoch(ctx, p, time.Now().AddDate(0, 0, 1-epochDays))
	if err != nil || epoch == "" {
		return err
	}
	if epoch != c.Epoch {
		c.Epoch = epoch
		fmt.Fprintf(w, "asked before, in whole or in part: keeping the salts of %s\n", epoch)
	}
	if others > 0 {
		fmt.Fprintf(w, "warning: values asked under other salts before: %d; who compares both questions can narrow them down, so ask about them separately\n", others)
	}
	return nil
}

// advice is what to do about a refusal.
var advice = map[string]string{
	dossier.AwaitingOthers.String(): "another organisation must ask the same, in this window and with as many keys: tell one what you look for, or wait with --wait",
	dossier.OverBudget.String():     "your organisation's budget there is used up for now: ask again tomorrow",
	dossier.NotPermitted.String():   "its policy answers no such question: fix an address (IPv4: /24 or longer), give --from and --to, and fewer fields",
	dossier.TooSpecific.String():    "the keys leave it too few candidates: ask with fewer --bits",
	dossier.TooAmbiguous.String():   "too many of its flows share the key: ask with more --bits, or in a shorter window",
	dossier.TooCostly.String():      "it allows less work: ask in a shorter window, or with fewer fields",
	dossier.TooCommon.String():      "so much of its traffic fits that the answer says nothing: add a field",
}

// explainRefusals says, for each reason that witnesses gave, how many gave it and what can
// be done.
func explainRefusals(w io.Writer, out *inquiry.Summary) {
	counts := map[string]int{}
	for i := range out.Result.Witnesses {
		if why := out.Result.Witnesses[i].Refused; why != "" {
			counts[why]++
		}
	}
	for _, why := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "refused by %d: %s", counts[why], why)
		if text := advice[why]; text != "" {
			fmt.Fprintf(w, ": %s", text)
		}
		fmt.Fprintln(w)
	}
}

// askAll asks the pattern and its decoys in random order: an observer of all of
// them cannot recognise the pattern by its place.
func (a *askCommand) askAll(cmd *cobra.Command, record *inquiry.History, c inquiry.Configuration, p *pattern.Pattern) error {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	questions := []*pattern.Pattern{p}
	for range a.decoys {
		d, err := detective.Decoy(p, random)
		if err != nil {
			return cli.Usage(err)
		}
		questions = append(questions, d)
	}
	random.Shuffle(len(questions), func(i, j int) { questions[i], questions[j] = questions[j], questions[i] })
	stderr := cmd.ErrOrStderr()
	var result *detective.Result
	for _, q := range questions {
		number, out, err := record.Run(cmd.Context(), c, q, q != p)
		if err != nil {
			return err
		}
		if q == p {
			result = &out.Result
			fmt.Fprintf(stderr, "inquiry %d: %s\n", number, out.Tally)
			explainRefusals(stderr, out)
			continue
		}
		for _, w := range out.Result.Witnesses {
			if w.Opened > 0 {
				fmt.Fprintf(stderr, "warning: %s testifies to traffic that never happened (inquiry %d)\n", w.Name, number)
			}
		}
	}
	return hunt.WriteResult(cmd.OutOrStdout(), *a.output, result)
}
