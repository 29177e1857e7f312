package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/dossier/pattern"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
)

func newQuestion() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "question",
		Short: "Ask witnesses of other organisations, and see what they asked ours",
		Long: `Question has the verbs for both ends of asking over the network. A detective asks
('ask'), follows an inquiry ('status') and checks how witnesses have behaved
('witnesses'). A witness's operator lists everything that was asked and answered
('list'), in a record that shows tampering ('list --verify').

From a question a witness learns which parts of a flow the pattern fixes, the time
window, and a hash so short that many values share it: not the values, and not
which of its answers was meant, or whether any was. 'dragnet pattern explain' shows
it for a pattern before anything is sent.`,
		Args: cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newQuestionAsk(), newQuestionStatus(), newQuestionWitnesses(), newQuestionList())
	return cmd
}

// networkFlags are the flags of hunt and 'question ask' that say who asks over the
// network, and how long it waits.
type networkFlags struct {
	book, key string
	deadline  time.Duration
	maxAnswer int
}

func (n *networkFlags) addFlags(cmd *cobra.Command) {
	d := inquiry.DefaultConfiguration()
	f := cmd.Flags()
	f.StringVar(&n.book, "book", "", "file of the witnesses we know: name, key, url, organisation, networks (default: the context's)")
	f.StringVar(&n.key, "key", "", "file of our private key, which the roster lists (default: the context's; 'dragnet roster key' makes one)")
	fromContext(cmd, "book")
	fromContext(cmd, "key")
	f.DurationVar(&n.deadline, "deadline", d.Deadline, "how long to wait for the answers to one stage")
	f.IntVar(&n.maxAnswer, "max-answer", d.MaxAnswer, "size in bytes at which an answer is cut off")
}

// makeConfiguration reads the book and the key.
func (n *networkFlags) makeConfiguration() (c inquiry.Configuration, err error) {
	if n.book == "" || n.key == "" {
		return c, cli.Usage(errors.New("asking over the network needs --book FILE and --key FILE"))
	}
	if n.deadline <= 0 || n.maxAnswer < 1 {
		return c, cli.Usage(errors.New("--deadline and --max-answer must be positive"))
	}
	c = inquiry.DefaultConfiguration()
	c.Deadline, c.MaxAnswer, c.Book = n.deadline, n.maxAnswer, new(inquiry.Book)
	if err := conf.Load(c.Book, n.book); err != nil {
		return c, err
	}
	if c.Key, err = identity.Load(n.key); err != nil {
		return c, cli.Hint(err, "'dragnet roster key FILE' makes a key; the clearinghouse puts its public half on the roster")
	}
	return c, nil
}

// publishedEpoch returns today's epoch as the book's clearinghouse publishes it; if
// the book names none, the day itself.
func publishedEpoch(ctx context.Context, c *inquiry.Configuration, today string) (string, error) {
	server := c.Book.Clearinghouse
	if server.URL == "" {
		return today, nil
	}
	client, err := reporting.Dial(server.URL, []identity.Public{server.Key}, c.Key)
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Deadline)
	defer cancel()
	epoch, err := client.Epoch(ctx, today)
	if err != nil {
		return "", cli.Hint(fmt.Errorf("today's salts: %w", err), "give an epoch that the witnesses know with --epoch")
	}
	return epoch, nil
}

// readRoster returns the community's roster if the book names its signer, the newest
// that the clearinghouse has. Without one that holds, its members are strangers, which
// is said.
func readRoster(ctx context.Context, stderr io.Writer, c *inquiry.Configuration) error {
	keeper, err := c.Book.Roster.Keeper()
	if err != nil || keeper == nil {
		return err
	}
	now := time.Now()
	if server := c.Book.Clearinghouse; server.URL != "" {
		client, err := reporting.Dial(server.URL, []identity.Public{server.Key}, c.Key)
		if err != nil {
			return err
		}
		defer client.Close()
		within, cancel := context.WithTimeout(ctx, c.Deadline)
		defer cancel()
		bundle, err := client.FetchRoster(within)
		if err == nil {
			_, err = keeper.Accept(bundle, now)
		}
		if err != nil {
			fmt.Fprintf(stderr, "warning: no newer roster: %v\n", err)
		}
	}
	if c.Roster, err = keeper.Current(now); err != nil {
		fmt.Fprintf(stderr, "warning: %v; who is behind a witness is known from the book alone\n", err)
	}
	return nil
}

// refuseBelowFloor refuses a question that would give the pattern away.
func refuseBelowFloor(asked []detective.MeteredKey) error {
	for i := range asked {
		if a := &asked[i]; a.Hidden() < floor {
			return cli.Hint(fmt.Errorf("the key of %q leaves a reader only %s, fewer than %d", a.Clue, formatCandidates(a.Hidden()), floor),
				"ask with fewer --bits, or with --force if the witnesses may know")
		}
	}
	return nil
}

// witnessFlags select the witnesses.
type witnessFlags struct {
	names       []string
	near, table string
	random      int
	all         bool
	stage       int
	strangers   int
}

func (w *witnessFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&w.names, "witness", "w", nil, "a witness of the book, by name or URL; repeat for each")
	f.StringVar(&w.near, "near", "", "all witnesses of the book, the nearest to this address first")
	f.IntVar(&w.random, "random", 0, "a random sample of this many, strangers of the relays included")
	f.BoolVar(&w.all, "all", false, "all witnesses, strangers of the relays included")
	f.IntVar(&w.strangers, "strangers", inquiry.DefaultConfiguration().Strangers, "ask at most this many witnesses that only relays know, drawn at random; all of them have one voice")
	f.StringVar(&w.table, "table", "", "file of PREFIX AS and AS|AS lines, for distances between ASes")
	f.IntVar(&w.stage, "stage", 0, "ask this many at first, then twice as many, and so on until the quorum agrees; 0 asks all at once")
	cmd.MarkFlagsMutuallyExclusive("witness", "near", "random", "all")
	cmd.MarkFlagsOneRequired("witness", "near", "random", "all")
}

func (w *witnessFlags) setSelection(c *inquiry.Configuration) (err error) {
	c.Selection = inquiry.WitnessSelection{Names: w.names, Random: w.random, All: w.all}
	c.Stage, c.Strangers = w.stage, w.strangers
	if w.random < 0 || w.stage < 0 || w.strangers < 0 {
		return cli.Usage(errors.New("--random, --stage and --strangers cannot be negative"))
	}
	if w.near != "" {
		if c.Selection.Near, err = netip.ParseAddr(w.near); err != nil {
			return cli.Usage(fmt.Errorf("--near: %w", err))
		}
	}
	if w.table == "" {
		return nil
	}
	f, err := os.Open(w.table)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.Table, err = inquiry.ReadTable(f); err != nil {
		return fmt.Errorf("%s: %w", w.table, err)
	}
	return nil
}

// stateFlag adds the flag that names the detective's record.
func stateFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("state", "", "where inquiries are recorded: a file or a postgres:// URL (default ~/.local/share/dragnet/questions.db)")
}

func openRecord(ctx context.Context, address string) (*inquiry.History, *state.DB, error) {
	if address == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil, cli.Hint(err, "say where to keep the record: --state FILE")
		}
		address = filepath.Join(home, ".local", "share", "dragnet", "questions.db")
	}
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	r, err := inquiry.OpenRecord(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return r, db, nil
}

func parsePattern(text string) (*pattern.Pattern, error) {
	p, err := pattern.Parse(text, pattern.FromDisk)
	if err != nil {
		return nil, cli.Hint(cli.Usage(err), "see 'dragnet hunt --help' for the language of patterns")
	}
	return p, nil
}
