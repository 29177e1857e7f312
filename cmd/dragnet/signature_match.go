package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/signature/family"
	"dragnet/signature/match"
)

func newSignatureMatch() *cobra.Command {
	o := matchOptions{}
	var published bool
	var labels string
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "match PATH...",
		Short: "Find variants in files, captures or a stream",
		Long: `Match prints the sequences that a signature matches. Of connections in captures, only
what clients sent is compared: replies of a server are not the worm, but may repeat
it. With --labels it prints a table that compares the results with the truth instead.
Exit code 3 means that something matched.

A PATH - is standard input, compared packet by packet and printed as it is found; it
ends with the input or with Ctrl-C. As a JSON list has an end, -o json prints lines then.

What signatures on probation match is only counted; those that are retired, or have
expired, are left out ('dragnet signature approve').

With --keep, matches in captures become findings about their senders in that data
directory, as those of a sensor do; 'dragnet finding list' lists them.`,
		Example: `  dragnet signature match -s worm.signature.json week.pcap
  tcpdump -i eth0 -U -w - | dragnet signature match -s worm.signature.json --keep /var/lib/dragnet -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signatures, err := o.open(cmd)
			if err != nil {
				return err
			}
			m, err := match.New(signatures, match.Options{Kernel: match.Fastest(), Published: published})
			if err != nil {
				return err
			}
			if labels != "" {
				return printConfusion(cmd, *output, m, labels, args)
			}
			run := newMatchRun(cmd, &o, m, signatures, slices.Contains(args, "-"), *output)
			return run.printMatches(args)
		},
	}
	output = cli.OutputFlag(cmd)
	f := cmd.Flags()
	o.addFlags(cmd)
	f.StringVar(&o.keep, "keep", "", "data directory to keep findings about senders in, for 'finding list'")
	f.BoolVar(&published, "published", false, "compare with 0, as the paper does, instead of the calibrated threshold")
	f.StringVar(&labels, "labels", "", "labels file of 'signature generate': print a confusion table")
	return cmd
}

// printConfusion compares results with labels: one row per true family, a column
// for matched sequences and one for the others.
func printConfusion(cmd *cobra.Command, f cli.Format, m *match.Matcher, labels string, paths []string) error {
	truth, err := readLabels(labels)
	if err != nil {
		return err
	}
	type row struct {
		Truth   string `json:"truth"`
		Matched int    `json:"matched"`
		Passed  int    `json:"passed"`
	}
	count := map[string]*row{}
	var order []string
	unknown := 0
	for _, path := range paths {
		err := matchSequences(cmd, m, path, func(name string, _ int64, all []match.Result) {
			family, ok := truth[filepath.Base(name)]
			if !ok {
				unknown++
				return
			}
			if family == "" {
				family = "benign"
			}
			if count[family] == nil {
				count[family] = &row{Truth: family}
				order = append(order, family)
			}
			for _, v := range all {
				if v.Match {
					count[family].Matched++
					return
				}
			}
			count[family].Passed++
		})
		if err != nil {
			return err
		}
	}
	if unknown > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d sequences have no label in %s and were left out\n", unknown, labels)
	}
	rows := cli.Rows[*row]{Header: []string{"truth", "matched", "passed"}}
	for _, name := range order {
		r := count[name]
		rows.Items = append(rows.Items, r)
		rows.Cells = append(rows.Cells, []string{r.Truth, strconv.Itoa(r.Matched), strconv.Itoa(r.Passed)})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

func readLabels(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	truth := map[string]string{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var l label
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil || l.File == "" {
			return nil, fmt.Errorf("%s: line %d is not a label", path, n)
		}
		truth[l.File] = l.Family
	}
	return truth, lines.Err()
}

func newSignatureTest() *cobra.Command {
	var paths, trust []string
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "test CLEAN...",
		Short: "Count false alarms on your own clean traffic",
		Long: `Test matches signatures against traffic known to be clean and compares the false
alarms with what the model expects. Exit code 3 means that there were more than
the model allows (Poisson, 99 %).`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signatures, err := openSignatures(paths, trust)
			if err != nil {
				return err
			}
			m, err := match.New(signatures, match.Options{Kernel: match.Fastest()})
			if err != nil {
				return err
			}
			alarms := make([]int, len(signatures))
			sequences, bytes := 0, int64(0)
			for _, path := range args {
				err := matchSequences(cmd, m, path, func(_ string, size int64, all []match.Result) {
					sequences++
					bytes += size
					for i, v := range all {
						if v.Match {
							alarms[i]++
						}
					}
				})
				if err != nil {
					return err
				}
			}
			type item struct {
				Signature string  `json:"signature"`
				Sequences int     `json:"sequences"`
				Bytes     int64   `json:"bytes"`
				Alarms    int     `json:"alarms"`
				Expected  float64 `json:"expected"`
			}
			rows := cli.Rows[item]{Header: []string{"signature", "sequences", "bytes", "alarms", "expected"}}
			worse := 0
			for i, s := range signatures {
				expected := 0.0
				for _, p := range s.Parts {
					expected += max(0, p.FalseAlarms) * float64(bytes) / 1e9
				}
				if !poissonAllows(expected, alarms[i]) {
					worse++
				}
				rows.Items = append(rows.Items, item{s.Name, sequences, bytes, alarms[i], expected})
				rows.Cells = append(rows.Cells, []string{s.Name, strconv.Itoa(sequences), strconv.FormatInt(bytes, 10), strconv.Itoa(alarms[i]), fmt.Sprintf("%.2g", expected)})
			}
			if err := cli.WriteRows(cmd.OutOrStdout(), *output, rows); err != nil {
				return err
			}
			if worse > 0 {
				return cli.Hint(cli.Found(fmt.Errorf("%d signatures give more false alarms than their model allows", worse)),
					"learn them again with this traffic as --clean")
			}
			return nil
		},
	}
	output = cli.OutputFlag(cmd)
	cmd.Flags().StringSliceVarP(&paths, "signature", "s", nil, "signature file; may be repeated")
	cmd.Flags().StringSliceVar(&trust, "trust", nil, "accept only signatures sealed by this Ed25519 public key (PEM)")
	return cmd
}

// poissonAllows reports whether n or more events have a probability of at least
// 1 % if expected are expected.
func poissonAllows(expected float64, n int) bool {
	below, term := 0.0, math.Exp(-expected)
	for k := range n {
		below += term
		term *= expected / float64(k+1)
	}
	return 1-below >= 0.01
}

func newSignatureCluster() *cobra.Command {
	var clean []string
	var o family.Options
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "cluster PATH...",
		Short: "Group samples of several worms into families",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			samples, err := collectSamples(cmd, args, false)
			if err != nil {
				return err
			}
			if len(samples.Sequences) == 0 {
				return errors.New("all samples are empty")
			}
			known, err := collectClean(cmd, clean, samples.Sequences)
			if err != nil {
				return err
			}
			o.Normal = known.Strings
			r, err := family.Cluster(cmd.Context(), samples.Sequences, known.Background, o)
			if err != nil {
				return err
			}
			type item struct {
				Family  string   `json:"family"`
				Samples []string `json:"samples"`
			}
			rows := cli.Rows[item]{Header: []string{"family", "count", "samples"}}
			add := func(name string, members []int) {
				it := item{Family: name, Samples: []string{}}
				for _, i := range members {
					it.Samples = append(it.Samples, samples.Names[i])
				}
				rows.Items = append(rows.Items, it)
				rows.Cells = append(rows.Cells, []string{name, strconv.Itoa(len(members)), strings.Join(it.Samples, " ")})
			}
			for i, members := range r.Families {
				add(strconv.Itoa(i+1), members)
			}
			if len(r.Outliers) > 0 {
				add("none", r.Outliers)
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	cmd.Flags().StringSliceVar(&clean, "clean", nil, "clean traffic, whose strings do not count as similarity")
	cmd.Flags().IntVar(&o.Width, "width", 32, "positions that decide membership")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of all random choices")
	return cmd
}
