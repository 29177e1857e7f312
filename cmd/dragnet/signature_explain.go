package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/signature/match"
)

func newSignatureExplain() *cobra.Command {
	var o matchOptions
	var most int
	cmd := &cobra.Command{
		Use:   "explain SIGNATURE PATH...",
		Short: "Show which bytes, at which positions, made a sequence match",
		Long: `Explain prints, for each sequence that the signature matches, the bytes of each part that
matched, sixteen in a row with their offset, and under each byte how much it speaks for
the worm rather than for normal traffic:

  ##  e^6 times or more      #   e^3 times or more      +   more likely than not
  .   as likely in both      -   less likely: the worm mostly has another byte there

The score of a part is the mean of these log ratios, in nats per byte; the part matches
above its threshold. A signature that matches nothing prints how near its best part came.`,
		Example: "  dragnet signature explain worm.signature.json alert.pcap",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := openSignatures(args[:1], o.trust)
			if err != nil {
				return err
			}
			samples, err := collectSamples(cmd, args[1:], o.toServer)
			if err != nil {
				return err
			}
			m, err := match.New(all, match.Options{Kernel: match.Fastest()})
			if err != nil {
				return err
			}
			shown := 0
			for i, data := range samples.Sequences {
				v := m.Match(data)[0]
				if !v.Match {
					continue
				}
				if shown++; shown > most {
					continue
				}
				explainMatch(cmd.OutOrStdout(), all[0], samples.Names[i], data, &v)
			}
			switch {
			case shown == 0:
				explainNearest(cmd.OutOrStdout(), all[0], m, samples.Names, samples.Sequences)
			case shown > most:
				fmt.Fprintf(cmd.OutOrStdout(), "\n%d more sequences match; --most %d shows them\n", shown-most, shown)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.trust, "trust", nil, "accept only a signature sealed by this Ed25519 public key (PEM)")
	f.BoolVar(&o.toServer, "to-server", true, "of connections in captures, compare only what clients sent")
	f.IntVar(&most, "most", 5, "most sequences to explain")
	return cmd
}

func explainMatch(w io.Writer, s *dossier.Signature, name string, data []byte, v *match.Result) {
	fmt.Fprintf(w, "\n%s, %d bytes\n", cli.Printable(name), len(data))
	for _, e := range s.Exact {
		if at := bytes.Index(data, e.Bytes); at >= 0 {
			fmt.Fprintf(w, "holds a whole captured copy of %d bytes, from byte %d on\n", len(e.Bytes), at)
		}
	}
	reached := 0
	for _, p := range v.Parts {
		if p.Reached {
			reached++
		}
	}
	if len(s.Parts) > 0 {
		fmt.Fprintf(w, "%d of %d parts match; %d must\n", reached, len(s.Parts), cmp.Or(s.Quorum, len(s.Parts)))
	}
	for i, p := range v.Parts {
		if p.Reached {
			explainPart(w, s, i, data, int(p.At), p.Omega)
		}
	}
}

// explainPart prints the bytes of a part's anchor, the block that is looked for first.
func explainPart(w io.Writer, s *dossier.Signature, i int, data []byte, at int, omega float64) {
	p := &s.Parts[i]
	b := &p.Blocks[match.Anchor(p, &s.Background)]
	weights := b.Weights(&s.Background)
	window := data[at : at+len(weights)]
	fmt.Fprintf(w, "\npart %d: score %.3f, threshold %.3f nats per byte", i+1, omega, p.Threshold)
	if len(p.Blocks) > 1 {
		fmt.Fprintf(w, ", over %d blocks, of which the most telling one is shown", len(p.Blocks))
	}
	fmt.Fprintln(w)
	for from := 0; from < len(window); from += 16 {
		to := min(from+16, len(window))
		var hex, marks, text strings.Builder
		for k := from; k < to; k++ {
			x := window[k]
			fmt.Fprintf(&hex, " %02x", x)
			fmt.Fprintf(&marks, " %-2s", weightMark(weights[k][x]))
			if x < 0x20 || x > 0x7e {
				x = '.'
			}
			text.WriteByte(x)
		}
		fmt.Fprintf(w, "%8d %-48s  %s\n         %s\n", at+from, hex.String(), text.String(), strings.TrimRight(marks.String(), " "))
	}
	order := make([]int, len(window))
	for k := range order {
		order[k] = k
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(weights[y][window[y]], weights[x][window[x]]) })
	fmt.Fprint(w, "most telling:")
	for _, k := range order[:min(6, len(order))] {
		fmt.Fprintf(w, " byte %d is %02x (e^%.1f)", at+k, window[k], weights[k][window[k]])
	}
	fmt.Fprintln(w)
}

// weightMark is how a log ratio is drawn.
func weightMark(nats float64) string {
	switch {
	case nats >= 6:
		return "##"
	case nats >= 3:
		return "#"
	case nats >= 0.5:
		return "+"
	case nats > -0.5:
		return "."
	}
	return "-"
}

// explainNearest says how near the best sequence came to each part's threshold.
func explainNearest(w io.Writer, s *dossier.Signature, m *match.Matcher, names []string, all [][]byte) {
	fmt.Fprintf(w, "none of %s matches %s\n", cli.Plural(len(all), "sequence"), s.Name)
	best, at := slices.Repeat([]float64{math.Inf(-1)}, len(s.Parts)), make([]int, len(s.Parts))
	for k, data := range all {
		for i, score := range m.Scores(0, data) {
			if score > best[i] {
				best[i], at[i] = score, k
			}
		}
	}
	for i, score := range best {
		if !math.IsInf(score, -1) {
			fmt.Fprintf(w, "part %d: the best score is %.3f, in %s; the threshold is %.3f nats per byte\n", i+1, score, cli.Printable(names[at[i]]), s.Parts[i].Threshold)
		}
	}
}
