package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/node/community"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
	"dragnet/wire/invitation"
	"dragnet/wire/reporting"
	"dragnet/wire/roster"
)

// joinCommand holds the flags of 'community join'.
type joinCommand struct {
	wait, deadline time.Duration
	noQuestion     bool
}

func newCommunityJoin() *cobra.Command {
	var j joinCommand
	cmd := &cobra.Command{
		Use:   "join LINK --networks PREFIX... FOLDER",
		Short: "Join a community by its link",
		Long: `Join makes your key in a new FOLDER, shows it to the clearinghouse with the
invitation, and prints a code. Read the code to the operator of the community, by
telephone for example: it proves to both of you that there is no third party between you. When
the operator has admitted you it writes the configuration of your node, checks
that clearinghouse and relay are reached, and puts a test question to the members'
witnesses, about an address that was drawn at random; it says what that disclosed.

Run it again, with the same LINK and FOLDER, if it was interrupted.`,
		Example: "  dragnet community join 'https://203.0.113.1:8443/#dragnet-1,...' --networks 198.51.100.0/24 --log /var/log/zeek /etc/dragnet/south",
		Args:    cobra.ExactArgs(2),
	}
	networks, logs := networksFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		own, err := parseNetworks(*networks)
		if err != nil {
			return err
		}
		link, err := invitation.Parse(args[0])
		if err != nil {
			return cli.Usage(err)
		}
		m := community.MemberFolder(args[1])
		k, err := m.OpenKey(&link)
		if err != nil {
			return err
		}
		list, err := j.awaitAdmission(cmd.Context(), cmd.OutOrStdout(), &link, k, m)
		if err != nil {
			return err
		}
		if err := writeMember(m, &link, own, *logs); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "admitted as %s, one of %d members; start your node:\n  dragnet run node --config %s --config %s\n", link.Member, len(list.Members), m.Site(), m.Node())
		if j.noQuestion {
			return nil
		}
		return j.testQuestion(cmd.Context(), cmd.OutOrStdout(), link.Member, m, k, list)
	}
	f := cmd.Flags()
	f.DurationVar(&j.wait, "wait", time.Hour, "how long to wait for the operator")
	f.DurationVar(&j.deadline, "deadline", 20*time.Second, "how long to wait for answers to the test question")
	f.BoolVar(&j.noQuestion, "no-question", false, "put no test question")
	return cmd
}

// joinEvery is how often the clearinghouse is asked whether the operator admitted us.
const joinEvery = time.Second

// awaitAdmission shows the invitation until the roster lists our key.
func (j *joinCommand) awaitAdmission(ctx context.Context, w io.Writer, l *invitation.Link, k *identity.Key, m community.MemberFolder) (*roster.Held, error) {
	c, err := reporting.Dial(l.URL, []identity.Public{l.Server}, k)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	keeper, err := roster.NewKeeper(l.Signer, roster.File(m.HeldRoster()))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, j.wait)
	defer cancel()
	told := false
	for {
		list, err := tryJoin(ctx, c, keeper, l, k)
		switch code := connect.CodeOf(err); {
		case err == nil && list != nil:
			return list, nil
		case code == connect.CodePermissionDenied || code == connect.CodeInvalidArgument || code == connect.CodeUnimplemented:
			return nil, err
		case err != nil && !told:
			return nil, cli.Hint(fmt.Errorf("%s: %w", l.URL, err), "is the clearinghouse running, and is its address reached from here?")
		}
		if !told {
			told = true
			fmt.Fprintf(w, "asked to join %s as %s.\nRead this code to its operator, by telephone for example: %s\nwaiting to be admitted\n", l.Community, l.Member, invitation.Code(l, k.Public()))
		}
		select {
		case <-ctx.Done():
			return nil, cli.Hint(fmt.Errorf("not admitted yet: %w", ctx.Err()), "run the same command again when the operator has time")
		case <-time.After(joinEvery):
		}
	}
}

// tryJoin returns the roster once it lists our key.
func tryJoin(ctx context.Context, c *reporting.Client, keeper *roster.Keeper, l *invitation.Link, k *identity.Key) (*roster.Held, error) {
	member, admitted, err := c.Join(ctx, l.Secret)
	if err == nil && member != l.Member {
		err = connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the invitation is for %q, the link for %q: it was changed on its way", member, l.Member))
	}
	if err != nil || !admitted {
		return nil, err
	}
	bundle, err := c.FetchRoster(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	list, err := keeper.Accept(bundle, now)
	if err != nil {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the roster is not one of this community: %w", err))
	}
	m, err := list.May(k.ID(), 0, now)
	if errors.Is(err, roster.ErrUnknown) {
		return nil, nil // the next one has us
	}
	if err == nil && m.Name != l.Member {
		err = fmt.Errorf("the roster lists our key as %q, not as %q", m.Name, l.Member)
	}
	if err != nil {
		return nil, connect.NewError(connect.CodePermissionDenied, err)
	}
	return list, nil
}

// How often the test question is put while no witness knows us yet.
const (
	testAttempts = 8
	testPause    = 5 * time.Second
)

// testQuestion asks the members' witnesses about a random address, and says what
// they learnt from that.
func (j *joinCommand) testQuestion(ctx context.Context, w io.Writer, member string, m community.MemberFolder, k *identity.Key, list *roster.Held) error {
	c := inquiry.DefaultConfiguration()
	c.Book, c.Key, c.Roster, c.Deadline, c.Strangers = new(inquiry.Book), k, list, j.deadline, 0
	c.Selection = inquiry.WitnessSelection{All: true}
	if err := conf.Load(c.Book, m.Book()); err != nil {
		return err
	}
	p, err := pattern.Parse("out dst=192.0.2.1 proto=udp dport=9", pattern.NoFiles)
	if err == nil {
		p, err = detective.Decoy(p, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	}
	if err != nil {
		return err
	}
	now := time.Now()
	epoch, err := publishedEpoch(ctx, &c, now.UTC().Format(time.DateOnly))
	if err != nil {
		return err
	}
	hash, err := key.ParseHash("linear", key.FitBits(floor, epoch, detective.Tuples(p)))
	if err != nil {
		return err
	}
	c.Detective = detective.Configuration{
		Mode: dossier.OPRF, Hash: hash, Style: detective.Hybrid, Epoch: epoch, Quorum: 2,
		Window: flow.Window{From: flow.FromTime(now.Add(-time.Hour)), To: flow.FromTime(now)},
	}
	others, err := membersAtRelay(ctx, c.Book, k, list, now)
	if err != nil {
		return cli.Hint(fmt.Errorf("the relay: %w", err), "the clearinghouse is reached, its relay is not")
	}
	fmt.Fprintf(w, "clearinghouse and relay are reached; witnesses of members at the relay: %d\n", others)
	if others == 0 {
		_, err := fmt.Fprintln(w, "no test question was asked, because no other node can answer yet; ask when others have started theirs")
		return err
	}
	var metered []detective.MeteredKey
	c.Asking = func(keys []detective.MeteredKey) error { metered = keys; return refuseBelowFloor(keys) }
	var heard []string
	c.Note = func(n inquiry.Note) {
		if n.Status != inquiry.Waiting {
			heard = append(heard, strings.TrimSuffix(fmt.Sprintf("  %s: %s: %s", n.Witness, n.Status, n.Detail), ": "))
		}
	}
	var out *inquiry.Summary
	for attempt := range testAttempts { // a witness learns of a new member from its next roster
		heard = nil
		if out, err = inquiry.Run(ctx, c, p); err != nil {
			return err
		}
		if out.Tally.Count(inquiry.Answered)+out.Tally.Count(inquiry.Refused) > 0 || attempt == testAttempts-1 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(testPause):
		}
	}
	slices.Sort(heard)
	fmt.Fprintf(w, "test question: %s\n%s\n", out.Tally, strings.Join(heard, "\n"))
	fmt.Fprintf(w, "it disclosed to each: that %s asks; one hour of time; outgoing flows to an address, a port and a protocol;\n", member)
	for _, x := range metered {
		fmt.Fprintf(w, "  and a key of %d bits, which leaves a reader %s\n", hash.Bits, formatCandidates(x.Hidden()))
	}
	if out.Tally.Count(inquiry.Answered)+out.Tally.Count(inquiry.Refused) == 0 {
		return errors.New("no witness answered the test question")
	}
	return nil
}

// membersAtRelay counts the witnesses of other members that the relay has cards of.
func membersAtRelay(ctx context.Context, b *inquiry.Book, k *identity.Key, list *roster.Held, now time.Time) (n int, err error) {
	for _, r := range b.Relays {
		relay, err := exchange.DialRelay(k, exchange.Endpoint{URL: r.URL, Key: r.Key})
		if err != nil {
			return n, err
		}
		cards, err := relay.Witnesses(ctx, now)
		relay.Close()
		if err != nil {
			return n, err
		}
		for i := range cards {
			if _, err := list.May(cards[i].Key.ID(), roster.Witness, now); err == nil && cards[i].Key != k.Public() {
				n++
			}
		}
	}
	return n, nil
}
