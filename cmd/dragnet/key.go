package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"dragnet/ask/survey"
	"dragnet/flow/key"
	"dragnet/internal/cli"
	"dragnet/node/ingest"
)

func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Measure the ambiguous keys that represent a pattern in a question",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newKeySurvey())
	return cmd
}

// surveyFlags are the flags of 'key survey' that need parsing.
type surveyFlags struct {
	mask, end, near, svg string
}

func newKeySurvey() *cobra.Command {
	var flags surveyFlags
	c := survey.DefaultConfiguration()
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "survey FILE...",
		Short: "Compare hash functions on a log: how ambiguous their keys are, and at what cost",
		Long: `Survey takes the components named by --mask from every flow of a log (files or
directories of Zeek conn logs, eve.json and captures), hashes them with each hash
function, and reports for each:

  keys            distinct keys, and how many of them belong to one tuple only
  connections     share of connections whose key belongs to one tuple only
  tuples per key  distribution over keys
  answers, bytes  what a witness with this log sends in answer to one question
  candidates      tuples that are possible for a reader of the question who saw
                  none of the traffic: the question's protection
  time            to hash a million flows on one core

A hash is good if candidates are many and answers few.`,
		Example: `  dragnet key survey /var/log/zeek/2026-11-22 --near 198.51.100.0/24
  dragnet key survey border.pcap --mask addr4/32 --end in --hash linear --bits 12,16,20 --svg figure.svg`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.setConfiguration(&c); err != nil {
				return cli.Usage(err)
			}
			return runSurvey(cmd, c, *output, flags.svg, args)
		},
	}
	output = cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.mask, "mask", c.Mask.String(), "components of the tuple: addr4/N or addr6/N, sport, dport, proto, joined by +")
	f.StringVar(&flags.end, "end", c.End.String(), "which end of a flow is the unknown host: in (responder) or out (originator); the address is the other's")
	f.StringArrayVar(&c.Hashes, "hash", nil, "survey this hash only: linear, product, product-mod or product-mod:M; repeat for more (default all)")
	f.IntSliceVar(&c.Bits, "bits", nil, "sizes of linear and product-mod in bits (default 12, 16, 19, 24 and one that fits the log)")
	f.StringVar(&flags.near, "near", "", "also measure candidates for a reader who knows that the address lies in this prefix")
	f.StringVar(&c.Epoch, "epoch", c.Epoch, "day or name from which linear's salt is derived")
	f.IntVar(&c.Asked, "asked", c.Asked, "tuples drawn to measure candidates; 0 leaves them out")
	f.IntVar(&c.Sealed, "sealed", c.Sealed, "questions per hash whose answers are sealed to measure bytes; 0 leaves them out and reads the log once only")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of those samples")
	f.StringVar(&flags.svg, "svg", "", "also draw the distribution of tuples per key to this file")
	return cmd
}

func (s *surveyFlags) setConfiguration(c *survey.Configuration) (err error) {
	if c.Mask, err = key.ParseMask(s.mask); err != nil {
		return fmt.Errorf("--mask: %w", err)
	}
	if c.End, err = oneOf("--end", s.end, map[string]key.End{"in": key.In, "out": key.Out}); err != nil {
		return err
	}
	if s.near != "" {
		if c.Near, err = netip.ParsePrefix(s.near); err != nil {
			return fmt.Errorf("--near %q: want a prefix such as 198.51.100.0/24", s.near)
		}
		c.Near = c.Near.Masked()
	}
	if c.Asked < 0 || c.Sealed < 0 {
		return fmt.Errorf("--asked and --sealed must not be negative")
	}
	_, err = survey.Hashes(c.Hashes, c.Bits, 1)
	return err
}

func runSurvey(cmd *cobra.Command, c survey.Configuration, f cli.Format, svg string, paths []string) error {
	log, err := ingest.OpenAll(paths)
	if err != nil {
		return err
	}
	report := newStageProgress()
	c.Progress = report.addDone
	r, err := survey.Run(cmd.Context(), c, log)
	report.endStage()
	if err != nil {
		return err
	}
	for _, problem := range r.Coverage.Problems {
		fmt.Fprintln(cmd.ErrOrStderr(), problem)
	}
	if svg != "" {
		if err := writeFigure(svg, r); err != nil {
			return err
		}
	}
	if f == cli.Table {
		return writeSurvey(cmd.OutOrStdout(), r)
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, cli.Rows[survey.Row]{Items: r.Hashes, Document: r})
}

func writeFigure(path string, r *survey.Result) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--svg: %w", err)
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	return r.Figure("Tuples per key").WriteSVG(out)
}

// writeSurvey writes the table for people.
func writeSurvey(w io.Writer, r *survey.Result) error {
	fmt.Fprintf(w, "%d connections with %d distinct tuples of %s, X at %s", r.Connections, r.Tuples, r.Mask, r.End)
	if r.Without > 0 || r.Skipped > 0 {
		fmt.Fprintf(w, " (%d flows lack the address family, %d lines or packets skipped)", r.Without, r.Skipped)
	}
	fmt.Fprintf(w, "\n%d bits of linear give about 16 answers here\n\n", r.Recommended)
	for i, t := range r.Tables() {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s:\n", t.Title)
		if err := cli.WriteTable(w, t.Header, t.Cells); err != nil {
			return err
		}
	}
	return nil
}
