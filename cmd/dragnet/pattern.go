package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/internal/cli"
)

func newPattern() *cobra.Command {
	cmd := &cobra.Command{Use: "pattern", Short: "Check what a pattern gives away, before asking", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newPatternExplain(), newPatternSigma())
	return cmd
}

// explanation is the JSON form of 'pattern explain'.
type explanation struct {
	Version   int                    `json:"version"`
	Pattern   string                 `json:"pattern"`
	Hash      string                 `json:"hash"`
	Bits      int                    `json:"bits"`
	Mode      string                 `json:"mode"`
	Join      string                 `json:"join"`
	Epoch     string                 `json:"epoch"`
	Questions []detective.MeteredKey `json:"questions"`
	// Alternatives are the branches a witness joins, with the number of
	// combinations of addresses that are possible to a reader who knows the services.
	Alternatives  []alternative `json:"alternatives"`
	QuestionBytes int           `json:"question_bytes"`
}

type alternative struct {
	Clues           []string `json:"clues"`
	JointCandidates float64  `json:"joint_candidates"`
}

func newPatternExplain() *cobra.Command {
	var ask askFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "explain PATTERN",
		Short: "Show what a question would send, and what it would give away",
		Long: `Explain turns a pattern into the question a witness would receive, without
sending it: the mask and the key of each clue, how many values are possible for
that key to a reader who saw none of the traffic, and what a witness learns.

` + patternHelp,
		Example: `  dragnet pattern explain 'in src=203.0.113.5 dport=1433 then[1h] out dst=198.51.100.7 proto=udp dport=69'
  dragnet pattern explain 'out dport=6667 proto=tcp' --bits 8 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := pattern.Parse(args[0], pattern.FromDisk)
			if err != nil {
				return cli.Hint(cli.Usage(err), "see 'dragnet pattern explain --help' for the language of patterns")
			}
			c, err := ask.makeConfiguration(p)
			if err != nil {
				return cli.Usage(err)
			}
			q, err := detective.New(c, p)
			if err != nil {
				return err
			}
			return writeExplanation(cmd.OutOrStdout(), *output, q)
		},
	}
	output = cli.OutputFlag(cmd)
	ask.addFlags(cmd)
	return cmd
}

func writeExplanation(w io.Writer, f cli.Format, q *detective.Inquiry) error {
	r := q.Result()
	e := explanation{
		Version: 1, Pattern: r.Pattern, Hash: r.Hash, Bits: r.Bits, Mode: r.Mode, Join: r.Join, Epoch: r.Epoch,
		Questions: r.Questions, QuestionBytes: len(q.Question()),
	}
	branches := q.Branches()
	for i, n := range q.Joint() {
		e.Alternatives = append(e.Alternatives, alternative{branches[i], n})
	}
	rows := cli.Rows[detective.MeteredKey]{Header: []string{"clue", "mask", "key", "candidates", "knowing the service", "jointly", "among seen", "in clear"}, Document: e}
	for _, a := range e.Questions {
		rows.Items = append(rows.Items, a)
		rows.Cells = append(rows.Cells, []string{a.Clue, a.Mask, a.Key, formatNumber(a.Candidates), formatNumber(a.KnowingService), formatNumber(a.Jointly), formatSeen(a), cmp.Or(a.InClear, "-")})
	}
	if f != cli.Table {
		return cli.WriteRows(w, f, rows)
	}
	fmt.Fprintf(w, "Pattern: %s\nHash: %s", e.Pattern, e.Hash)
	if e.Bits > 0 {
		fmt.Fprintf(w, ", %d bits", e.Bits)
	}
	fmt.Fprintf(w, ". Question: %d bytes, the same to every witness.\n\n", e.QuestionBytes)
	if err := cli.WriteRows(w, f, rows); err != nil {
		return err
	}
	fmt.Fprint(w, `
Candidates: how many values a reader who saw none of the traffic must deem
possible for a key; "knowing the service": if it guesses ports and protocol.
"Jointly" is the number that the floor is held against: that reader also guesses
which keys are about one address or one /24 (IPv6: /64), and holds all of IPv4
unicast (of IPv6, 2^32 addresses) equally possible. A port alone is not hidden.
"Among seen": what a witness with ten million addresses in its log must expect
under the keys, if it saw the true one. What is "in clear" is not hashed: everybody
reads it, and of what a witness saw under the key only what meets it remains.

`)
	for _, a := range e.Alternatives {
		fmt.Fprintf(w, "Jointly %s for: %s\n", formatCandidates(a.JointCandidates), strings.Join(a.Clues, " + "))
	}
	for _, note := range q.Restrictions() {
		fmt.Fprintln(w, note)
	}
	fmt.Fprintf(w, `
A witness learns: which end of the flow is open, which components are fixed (the
mask), what is in clear, the window, %s, and the keys.
A witness that saw traffic under a key also knows its own flows with that key;
the fewer there are, the better it can guess which was meant.
A witness does not learn: addresses, ports or protocols you fixed, nor which of
its answers you could open.
%s
`, map[string]string{"witness": "how clues combine", "detective": "that the clues belong together"}[e.Join],
		map[string]string{
			dossier.OPRF.String():  "Each further guess at an answer costs one evaluation by the witness, which\ncounts them.",
			dossier.Paper.String(): "Anyone who obtains an answer can guess its tuple offline, at the price of the\nmemory-hard function for each guess.",
		}[e.Mode])
	return nil
}

// formatSeen leaves out what has no address. Where a condition travels in clear, the
// number is the most that may remain.
func formatSeen(a detective.MeteredKey) string {
	switch {
	case a.AmongSeen == 0:
		return "-"
	case a.InClear != "":
		return "<= " + formatNumber(a.AmongSeen)
	}
	return formatNumber(a.AmongSeen)
}

func formatNumber(n float64) string {
	return strings.TrimSuffix(strings.TrimSuffix(formatCandidates(n), "s"), " candidate")
}
