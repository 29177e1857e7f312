// Package play runs a hunt on the recorded incident and shows what each party
// learned: "dragnet demo", and lab/incident/demo, which is only that command.
// It opens the captures itself, so that the command links no database.
package play

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/cli"
	"dragnet/lab/incident"
	"dragnet/node/hunt"
	"dragnet/source/packets"
)

// Command is the command demo.
func Command() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the main job on a recorded incident, and show what each party learned",
		Long: `Demo plays an incident that this project recorded itself: an attacker breaks into
hosts of three organisations on tcp/1433, and those hosts then fetch a file by
TFTP from a code server. Four organisations recorded what crossed their own
edge. A detective, who saw the pattern on a honeypot, asks all four.

Everything runs in this process; nothing is sent anywhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Play(cmd.Context(), cmd.OutOrStdout(), keep)
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "leave the captures in this directory, to hunt in them yourself")
	return cmd
}

// demoBits is small because the organisations are: a witness with a hundred
// tuples should have a few of them for each key (b ~ log2(n/k)).
const demoBits = 3

// Play hunts in the captures of the four organisations and prints each step to
// w. It leaves the captures in the directory keep, if that is not empty. A
// group other than the infected hosts is an error.
func Play(ctx context.Context, w io.Writer, keep string) error {
	dir := keep
	if dir == "" {
		temporary, err := os.MkdirTemp("", "dragnet-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	truth, err := incident.ReadTruth(incident.Captures())
	if err != nil {
		return err
	}
	paths, err := incident.Unpack(dir)
	if err != nil {
		return err
	}
	var sources []hunt.NamedLog
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		log, err := packets.Open(paths[name])
		if err != nil {
			return err
		}
		sources = append(sources, hunt.NamedLog{Name: name, Log: log})
	}
	p, err := pattern.Parse(truth.Pattern(), pattern.NoFiles)
	if err != nil {
		return err
	}
	c := hunt.Configuration{Witness: witness.DefaultConfiguration(), Detective: detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: demoBits}, Style: detective.Hybrid,
		Window: flow.AllTime, Epoch: truth.Recorded.UTC().Format("2006-01-02"), Quorum: 1,
	}}
	out, err := hunt.Run(ctx, c, p, sources)
	if err != nil {
		return err
	}
	d := demo{w: w, out: out, truth: truth}
	d.printQuestion()
	if err := d.printWitnesses(); err != nil {
		return err
	}
	if err := d.printGroup(); err != nil {
		return err
	}
	if keep != "" {
		fmt.Fprintf(w, "\nHunt in the captures yourself:\n  dragnet hunt '%s' --bits %d", truth.Pattern(), demoBits)
		for _, source := range sources {
			fmt.Fprintf(w, " -w %s=%s", source.Name, paths[source.Name])
		}
		fmt.Fprintln(w)
	}
	return d.checkGroup()
}

// demo prints the result of one hunt.
type demo struct {
	w     io.Writer
	out   *hunt.Outcome
	truth incident.Truth
}

func (d *demo) printLine(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

func (d *demo) printQuestion() {
	d.printLine("1. THE DETECTIVE knows from its honeypot:\n     %s", d.out.Result.Pattern)
	d.printLine("   It sends all four organisations one question of %d bytes. Of each clue it shows:", d.out.QuestionBytes)
	for i, a := range d.out.Result.Questions {
		d.printLine("     clue %d: which parts are fixed (%s), and their key, %s, which %.2g values share", i+1, a.Mask, a.Key, a.Candidates)
	}
	d.printLine("   Addresses, ports and protocols are not in it.\n")
}

func (d *demo) printWitnesses() error {
	d.printLine("2. THE WITNESSES return every match, each sealed under what they saw. They learn the")
	d.printLine("   question above, but not which of their answers was meant, or whether any was:\n")
	var clear []string
	var rows [][]string
	for _, w := range d.out.Result.Witnesses {
		rows = append(rows, []string{w.Name, fmt.Sprint(w.Flows), fmt.Sprint(w.Answers), fmt.Sprint(w.Opened), fmt.Sprint(w.Collisions)})
		if w.Opened == 0 {
			clear = append(clear, w.Name)
		}
	}
	if err := cli.WriteTable(d.w, []string{"witness", "flows read", "answers sealed", "the detective opened", "stay closed"}, rows); err != nil {
		return err
	}
	d.printLine("\n   What stays closed is about other traffic that has the same keys by chance.")
	for _, name := range clear {
		d.printLine("   Nothing of %s could be opened: none of its hosts was involved, or shown to anybody.", name)
	}
	d.printLine("")
	return nil
}

func (d *demo) printGroup() error {
	d.printLine("3. THE GROUP, as the detective puts it together:\n")
	return hunt.WriteResult(d.w, cli.Table, &d.out.Result)
}

// checkGroup compares the group with the ground truth of the recording.
func (d *demo) checkGroup() error {
	found := map[string]bool{}
	for _, h := range d.out.Result.Hosts {
		found[h.Addr.String()+" of "+strings.Join(h.Witnesses, ",")] = true
	}
	infected, lookAlikes := 0, 0
	for _, o := range d.truth.Organisations {
		for _, h := range o.Infected {
			infected++
			if !found[h.String()+" of "+o.Name] {
				return fmt.Errorf("demo: %s of %s is infected and was not found", h, o.Name)
			}
			delete(found, h.String()+" of "+o.Name)
		}
		lookAlikes += len(o.LookAlikes)
	}
	if len(found) > 0 {
		return fmt.Errorf("demo: found though not infected: %s", strings.Join(slices.Sorted(maps.Keys(found)), "; "))
	}
	d.printLine("\nThe recording knows the truth: %d hosts were infected, and all were found; %d look-alikes", infected, lookAlikes)
	d.printLine("(only contacted, only fetched, fetched first, refused ...) were left out.")
	return nil
}
