package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/internal/plot"
	"dragnet/publish/rules"
	"dragnet/signature"
	"dragnet/signature/tokens"
)

func newSignatureShow() *cobra.Command {
	var svg string
	var trust []string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Draw a signature: bytes by position, with the information of each position",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := openSignatures(args, trust)
			if err != nil {
				return err
			}
			s := all[0]
			if err := writeParts(cmd, cli.Table, all); err != nil {
				return err
			}
			if l := s.Lifecycle; l != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "\n%s since %s, version %d, by %s; %s\n", s.StatusAt(time.Now()), l.At.Format(time.RFC3339), l.Version,
					cli.Printable(l.By), cli.Printable(cmp.Or(l.Why, "no reason given")))
			}
			for i := range s.Parts {
				for j := range s.Parts[i].Blocks {
					b := &s.Parts[i].Blocks[j]
					fmt.Fprintf(cmd.OutOrStdout(), "\npart %d, block %d of %d", i+1, j+1, len(s.Parts[i].Blocks))
					if j > 0 {
						fmt.Fprintf(cmd.OutOrStdout(), ", %d to %d bytes behind the one before", b.Gap.Min, b.Gap.Max)
					}
					fmt.Fprintln(cmd.OutOrStdout())
					drawBlock(cmd.OutOrStdout(), b, &s.Background)
				}
			}
			if svg == "" {
				return nil
			}
			f, err := os.Create(svg)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := plot.WritePage(f, 2, heatMaps(s)...); err != nil {
				return err
			}
			return f.Close()
		},
	}
	cmd.Flags().StringVar(&svg, "svg", "", "also draw heat maps into this file")
	cmd.Flags().StringSliceVar(&trust, "trust", nil, "accept only a signature sealed by this Ed25519 public key (PEM)")
	return cmd
}

// perLine is how many positions the terminal's drawing puts side by side.
const perLine = 24

// drawBlock prints the three likeliest bytes of each position with their shade
// and a bar of the position's information in bits.
func drawBlock(w io.Writer, b *dossier.Block, bg *dossier.Background) {
	shades := []rune(" ░▒▓█")
	bars := []rune(" ▁▂▃▄▅▆▇█")
	info := b.Information(bg)
	for from := 0; from < len(info); from += perLine {
		to := min(len(info), from+perLine)
		lines := make([]strings.Builder, 4)
		for p := from; p < to; p++ {
			f := b.Probabilities(p)
			order := make([]int, 256)
			for x := range order {
				order[x] = x
			}
			slices.SortStableFunc(order, func(a, c int) int { return cmp.Compare(f[c], f[a]) })
			bar := bars[min(len(bars)-1, max(0, int(info[p]/12*float64(len(bars)))))]
			fmt.Fprintf(&lines[0], " %c%c ", bar, bar)
			for k := range 3 {
				x := order[k]
				if f[x] < 0.02 {
					lines[k+1].WriteString("    ")
					continue
				}
				fmt.Fprintf(&lines[k+1], " %02x%c", x, shades[min(len(shades)-1, int(f[x]*float64(len(shades))))])
			}
		}
		for k, name := range []string{"bits", "1st ", "2nd ", "3rd "} {
			fmt.Fprintf(w, "%4d %s %s\n", from+1, name, strings.TrimRight(lines[k].String(), " "))
		}
	}
}

func heatMaps(s *dossier.Signature) []plot.Drawing {
	var all []plot.Drawing
	for i := range s.Parts {
		for j := range s.Parts[i].Blocks {
			b := &s.Parts[i].Blocks[j]
			heat := plot.Heat{Title: fmt.Sprintf("%s, part %d, block %d", s.Name, i+1, j+1), XLabel: "position", YLabel: "byte value", ValueLabel: "probability", Cells: make([][]float64, 256)}
			bits := plot.Series{Name: "bits", Kind: plot.Bars}
			for x := range heat.Cells {
				heat.Cells[x] = make([]float64, len(b.Columns))
			}
			for p, v := range b.Information(&s.Background) {
				for x, f := range b.Probabilities(p) {
					heat.Cells[x][p] = f
				}
				bits.X, bits.Y = append(bits.X, float64(p+1)), append(bits.Y, v)
			}
			all = append(all, heat, plot.Chart{Title: "information content", X: plot.Axis{Label: "position"}, Y: plot.Axis{Label: "bits against the background"}, Series: []plot.Series{bits}})
		}
	}
	return all
}

func newSignatureExport() *cobra.Command {
	var format string
	var trust []string
	var o tokens.Options
	var force, anyPort bool
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Export a signature as strings for another program, with the loss",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			write := rules.Writers()[format]
			if write == nil {
				return cli.Usage(fmt.Errorf("--format %q: must be one of %s", format, strings.Join(rules.Formats(), ", ")))
			}
			all, err := openSignatures(args, trust)
			if err != nil {
				return err
			}
			if status := all[0].StatusAt(time.Now()); status != dossier.SignatureActive {
				return cli.Hint(fmt.Errorf("signature %s is not exported: its status is %s", all[0].Name, status), "'dragnet signature approve' puts it into use")
			}
			a := all[0].Strings // tested with the signature
			if flags := cmd.Flags(); a == nil || flags.Changed("strings") || flags.Changed("false-alarms") || flags.Changed("adjacent") {
				if a, err = tokens.Lower(all[0], o); err != nil {
					return err
				}
			}
			of := "windows that it accepts"
			if a.Tested > 0 {
				of = fmt.Sprintf("%d samples that it found when they were held out", a.Tested)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d strings of %s; of the %s, they miss %.2f %%\n", len(a.Contents), a.Name, of, 100*a.Loss)
			if a.Loss > signature.MostLoss && !force {
				return cli.Hint(fmt.Errorf("strings cannot say what %s says: %.2f %% is more than %.0f %%", a.Name, 100*a.Loss, 100*signature.MostLoss),
					"--force exports them all the same; 'dragnet signature match' and a sensor of dragnet find the rest")
			}
			set := &rules.Set{Alternatives: a, Version: all[0].Version(), Service: all[0].Service, Background: &all[0].Background}
			if anyPort {
				set.Service = nil
			}
			return write(cmd.OutOrStdout(), set)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "suricata", strings.Join(rules.Formats(), ", "))
	cli.CompleteFlag(cmd, "format", rules.Formats()...)
	f.BoolVar(&force, "force", false, "export strings also if they miss more than a hundredth of what the signature finds")
	f.BoolVar(&anyPort, "any-port", false, "do not restrict rules to the port that the samples were sent to")
	f.IntVar(&o.Most, "strings", 12, "most strings to write")
	f.Float64Var(&o.FalseAlarms, "false-alarms", 0.001, "most false alarms of a string per 10^9 bytes")
	f.BoolVar(&o.Adjacent, "adjacent", false, "strings without wildcards only")
	f.StringSliceVar(&trust, "trust", nil, "accept only a signature sealed by this Ed25519 public key (PEM)")
	return cmd
}
