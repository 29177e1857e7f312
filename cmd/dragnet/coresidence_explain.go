package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/detect/coresidence"
	"dragnet/flow"
	"dragnet/internal/cli"
)

func newCoresidenceExplain() *cobra.Command {
	o := coresidenceOptions{c: coresidence.DefaultConfiguration(), interval: time.Second}
	cmd := &cobra.Command{
		Use:   "explain SOURCE... --machine ADDRESS",
		Short: "Show why a machine counts as synchronised with others",
		Long: `Explain compares as 'coresidence detect' does, with the same flags, and shows of
each alarm about one machine: the intervals in which both began to transmit, the
probability, what speaks for an innocent cause, and the command that shows the
same again. With --svg it draws the transmissions. Exit code 3 means that there is
an alarm that nothing explains.`,
		Example: `  dragnet coresidence explain conn.log --machines machines.csv --machine 10.3.0.1 --svg plots`,
		Args:    cobra.MinimumNArgs(1),
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.vm, "machine", "", "address of the machine")
	cmd.Flags().StringVar(&o.svg, "svg", "", "draw each alarm into this directory")
	cmd.RunE = func(cmd *cobra.Command, sources []string) error {
		address, err := netip.ParseAddr(o.vm)
		if err != nil {
			return cli.Hint(cli.Usage(fmt.Errorf("--machine %q is not an address", o.vm)), "'dragnet coresidence detect' lists the machines with alarms")
		}
		a, found, skipped, err := o.analyse(cmd.Context(), sources)
		if err != nil {
			return err
		}
		if a.ShareOf(coresidence.VM{Address: address}) == nil {
			return cli.Usage(fmt.Errorf("%s is not in %s", address, o.machines))
		}
		found.Alarms = o.chooseAlarms(found.Alarms)
		if *o.output == cli.Table {
			o.explain(cmd.OutOrStdout(), sources, a, found)
		} else if err := o.writeAlarms(cmd, found); err != nil {
			return err
		}
		o.writeAccount(cmd.ErrOrStderr(), a, found, skipped)
		if o.svg != "" {
			if err := drawAlarms(cmd.ErrOrStderr(), o.svg, a, found.Alarms); err != nil {
				return err
			}
		}
		if countUnexplained(found.Alarms) > 0 {
			return cli.Found(errors.New(cli.Plural(countUnexplained(found.Alarms), "alarm")))
		}
		return nil
	}
	return cmd
}

// explain writes alarms as text.
func (o *coresidenceOptions) explain(w io.Writer, sources []string, a *coresidence.Activity, found coresidence.Result) {
	if len(found.Alarms) == 0 {
		fmt.Fprintf(w, "%s is not synchronised with any other machine\n", o.vm)
		return
	}
	for n, x := range found.Alarms {
		if n > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%d. %s began to transmit together with %s\n", n+1, namesOf(append([]coresidence.VM{x.VM}, x.With...)), namesOf(x.Others))
		tenants := "of one tenant, " + x.VM.Tenant
		if !x.SameTenant {
			tenants = "of two tenants, " + x.VM.Tenant + " and " + x.Others[0].Tenant
		}
		fmt.Fprintf(w, "   machines:    %s\n", tenants)
		fmt.Fprintf(w, "   together:    %d of %d times, where %.1f were to be expected, %s intervals later\n", x.Hits, x.Onsets, x.Expected, lagOf(x))
		fmt.Fprintf(w, "   probability: %.2g that machines which do not know of each other agree as often\n", x.P)
		if x.Rho != nil {
			fmt.Fprintf(w, "   correlation: %.3f (Pearson, of the shares of all intervals)\n", *x.Rho)
		}
		if x.ExplainedBy != nil {
			fmt.Fprintf(w, "   explained:   %s asked for what they sent; without its requests they are not synchronised\n", x.ExplainedBy)
		} else {
			fmt.Fprintln(w, "   explained:   by no machine that asked one of them for what it sent")
		}
		fmt.Fprintln(w, "   intervals:   "+intervalsOf(x.Intervals))
		fmt.Fprintln(w, "   again:       "+o.command(sources, a, x))
	}
}

// intervalsOf lists the first few intervals, and how many more there are.
func intervalsOf(all []flow.Time) string {
	const most = 12
	var text []string
	for _, t := range all[:min(most, len(all))] {
		text = append(text, t.Time().Format("15:04:05.000"))
	}
	if len(all) == 0 {
		return "none"
	}
	out := all[0].Time().Format(time.DateOnly) + " " + strings.Join(text, " ")
	if len(all) > most {
		out += fmt.Sprintf(" and %d more (-o json lists them)", len(all)-most)
	}
	return out
}

// command is the one that shows an alarm again, over the same intervals.
func (o *coresidenceOptions) command(sources []string, a *coresidence.Activity, x coresidence.Alarm) string {
	words := []string{"dragnet", "coresidence", "explain"}
	for _, s := range sources {
		words = append(words, quote(s))
	}
	at := func(t flow.Time) string { return t.Time().Format(time.RFC3339Nano) }
	end := a.Start + flow.Time(a.Length)*flow.Time(a.Intervals)
	words = append(words, "--machines", quote(o.machines), "--machine", x.VM.Address.String(), "--from", at(a.Start), "--to", at(end), "--interval", a.Length.String())
	standard := coresidence.DefaultConfiguration()
	if o.c.Rate != standard.Rate {
		words = append(words, "--rate", strconv.FormatFloat(o.c.Rate, 'g', -1, 64))
	}
	if o.c.Lags != standard.Lags {
		words = append(words, "--lags", strconv.Itoa(o.c.Lags))
	}
	if o.c.Quiet != standard.Quiet {
		words = append(words, "--quiet", strconv.Itoa(o.c.Quiet))
	}
	return strings.Join(words, " ")
}

// quote makes a word safe for a shell, if it needs that.
func quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+=,", r))
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
