package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/signature"
	"dragnet/signature/pads"
	"dragnet/simulate/variants"
)

func newSignatureLearn() *cobra.Command {
	var o signature.Options
	var clean []string
	var method, write, sign string
	var toServer bool
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "learn PATH...",
		Short: "Learn a signature from samples of one worm",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			samples, err := collectSamples(cmd, args, toServer)
			if err != nil {
				return err
			}
			known, err := collectClean(cmd, clean, samples.Sequences)
			if err != nil {
				return err
			}
			var all []*dossier.Signature
			if method == "mixture" {
				m, err := signature.LearnMixture(cmd.Context(), samples.Sequences, known, o)
				if err != nil {
					return err
				}
				all = m.Signatures
				fmt.Fprintf(cmd.ErrOrStderr(), "%d families, %d samples belong to none\n", len(m.Families), len(m.Outliers))
			} else {
				if o.Method = pads.Method(method); o.Method != pads.EM && o.Method != pads.Gibbs {
					return cli.Usage(fmt.Errorf("--method %s: must be em, gibbs or mixture", method))
				}
				all, err = signature.LearnFamilies(cmd.Context(), samples.Sequences, known, o)
				for _, s := range all {
					err = errors.Join(err, o.CheckSafe(s.Evaluation)) // of a single copy
				}
				if len(all) > 1 {
					fmt.Fprintln(cmd.ErrOrStderr(), "the samples are of two worms: one signature for each")
				}
				if errors.Is(err, signature.ErrUnsafe) {
					return cli.Hint(err, "'dragnet signature cluster' sorts samples into families; more samples, or other clean traffic, may help")
				}
				if err != nil {
					return err
				}
			}
			for i, s := range all {
				s.Made, s.Service = time.Now().UTC().Truncate(time.Second), samples.service()
				path := write
				if path == "" || len(all) > 1 {
					path = filepath.Join(filepath.Dir(write), s.Name+".signature.json")
				}
				if err := writeSignature(all[i], path, sign); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "wrote", path)
			}
			if err := writeParts(cmd, *output, all); err != nil || *output != cli.Table {
				return err
			}
			for _, s := range all {
				if err := writeEvaluation(cmd.OutOrStdout(), s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	output = cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "worm", "name of the signature")
	f.StringSliceVar(&clean, "clean", nil, "clean traffic: its bytes are the background, its strings are never learnt")
	f.BoolVar(&toServer, "to-server", true, "of connections in captures, take only what clients sent: a honeypot's replies are not the worm")
	f.StringVar(&method, "method", "gibbs", "em, gibbs, or mixture (many blocks and families at once)")
	f.IntVar(&o.Width, "width", 64, "positions of a part")
	f.BoolVar(&o.Auto, "auto", false, "start at --width and shrink it until all positions are informative")
	f.IntVar(&o.Parts, "parts", 1, "learn up to this many parts, all of which must match; with 1, any of what is found")
	f.IntVar(&o.Restarts, "restarts", 2, "runs, of which the best is kept")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all random choices")
	f.Float64Var(&o.FalseAlarms, "false-alarms", 0.001, "most false alarms of the model per 10^9 bytes")
	f.IntVar(&o.Folds, "folds", 4, "parts into which samples and clean traffic are dealt to test what is learnt; 1 tests nothing")
	f.Float64Var(&o.LeastFound, "least-found", 0.2, "least share of held-out samples that must be found, or nothing is written")
	f.Float64Var(&o.MostAlarms, "most-alarms", 0, "most share of held-out clean sequences that may match")
	f.StringVar(&write, "write", "", "signature file to write (default NAME.signature.json)")
	f.StringVar(&sign, "sign", "", "Ed25519 private key (PEM) to seal the file with")
	return cmd
}

func writeParts(cmd *cobra.Command, f cli.Format, all []*dossier.Signature) error {
	type item struct {
		Signature   string  `json:"signature"`
		Part        int     `json:"part"`
		Blocks      int     `json:"blocks"`
		Width       int     `json:"width"`
		Bits        float64 `json:"bits_per_byte"`
		Threshold   float64 `json:"threshold"`
		FalseAlarms float64 `json:"false_alarms_per_gb"`
		Samples     int     `json:"samples,omitempty"`
		// Evaluation is that of the whole signature, on its first part.
		Evaluation *dossier.Evaluation `json:"evaluation,omitempty"`
	}
	rows := cli.Rows[item]{Header: []string{"signature", "part", "blocks", "width", "bits/byte", "threshold", "false alarms/GB", "samples"}}
	for _, s := range all {
		for i := range s.Parts {
			p := &s.Parts[i]
			bits := 0.0
			for b := range p.Blocks {
				for _, v := range p.Blocks[b].Information(&s.Background) {
					bits += v / float64(p.Width())
				}
			}
			rows.Items = append(rows.Items, item{s.Name, i + 1, len(p.Blocks), p.Width(), bits, p.Threshold, p.FalseAlarms, p.Samples, evaluationOf(s, i)})
			rows.Cells = append(rows.Cells, []string{s.Name, strconv.Itoa(i + 1), strconv.Itoa(len(p.Blocks)), strconv.Itoa(p.Width()),
				fmt.Sprintf("%.2f", bits), fmt.Sprintf("%.3f", p.Threshold), fmt.Sprintf("%.2g", p.FalseAlarms), countOf(p.Samples, s.Learning.Samples)})
		}
		for i, e := range s.Exact {
			rows.Items = append(rows.Items, item{s.Name, i + 1, 0, len(e.Bytes), 8, 0, 0, 1, evaluationOf(s, i)})
			rows.Cells = append(rows.Cells, []string{s.Name, "exact", "-", strconv.Itoa(len(e.Bytes)), "-", "-", "-", "1 of 1"})
		}
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

// countOf is how many of all samples a part matches; a dash where that is not known.
func countOf(n, all int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", n, all)
}

func evaluationOf(s *dossier.Signature, part int) *dossier.Evaluation {
	if part > 0 {
		return nil
	}
	return s.Evaluation
}

// writeEvaluation writes what was found of samples and clean traffic that were held
// out, and how the kinds of signature compare.
func writeEvaluation(w io.Writer, s *dossier.Signature) error {
	e := s.Evaluation
	if e == nil {
		_, err := fmt.Fprintf(w, "\n%s was not tested: too few samples to hold some out\n", s.Name)
		return err
	}
	percent := func(i dossier.Interval) string { return fmt.Sprintf("%.2f to %.2f %%", 100*i.Low, 100*i.High) }
	var rows [][]string
	if e.Samples > 0 {
		rows = append(rows, []string{"samples", strconv.Itoa(e.Found), strconv.Itoa(e.Samples - e.Found), percent(e.Missed)})
	}
	if n := e.CleanSequences - e.HardNegatives; n > 0 {
		rows = append(rows, []string{"clean sequences", strconv.Itoa(e.Alarms), strconv.Itoa(n - e.Alarms), percent(e.FalseAlarms)})
	}
	if _, err := fmt.Fprintf(w, "\n%s\n%s", s.Name, describeRest(e)); err != nil {
		return err
	}
	if err := cli.WriteTable(w, []string{"held out", "matched", "not matched", "error, 95 %"}, rows); err != nil || e.Folds == 0 {
		return err
	}
	var tried [][]string
	for _, t := range e.Tried {
		result := t.Problem
		if t.Kept {
			result = "kept"
		}
		tried = append(tried, []string{t.Kind, strconv.Itoa(t.Found), strconv.Itoa(t.Alarms), cmp.Or(result, "-")})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return cli.WriteTable(w, []string{"kind", "samples found", "clean matched", "result"}, tried)
}

// describeRest says what the samples that were not found, and the clean sequences that
// were not counted, are.
func describeRest(e *dossier.Evaluation) (text string) {
	if share := float64(e.Found) / float64(max(1, e.Samples)); e.Samples > 0 && share < 0.9 {
		text = fmt.Sprintf("explains %.0f %% of the samples: the others hold another worm, or none\n", 100*share)
	}
	if e.HardNegatives > 0 {
		text += fmt.Sprintf("%d clean sequences hold what carriers of samples hold: they matched at first, were then learnt from on all folds, and are not counted\n", e.HardNegatives)
	}
	return text
}

func newSignatureGenerate() *cobra.Command {
	var name string
	var count, benign int
	var first, seed uint64
	r := variants.Published()
	cmd := &cobra.Command{
		Use:   "generate DIR",
		Short: "Write inert variants of a synthetic worm, for experiments",
		Long: `Generate writes byte strings that vary as the variants of a polymorphic worm do:
10 % of the bytes substituted, garbage inserted, embedded in 2 to 20 KB of
benign traffic. They come from a random number generator and do nothing.
DIR.labels.jsonl lists the variant in each file.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := variants.Family(name, seed)
			if err != nil {
				return cli.Usage(err)
			}
			return writeVariants(args[0], r, t, seed, first, count, benign)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "family", "alder", fmt.Sprintf("one of %v", variants.Names()))
	cli.CompleteFlag(cmd, "family", variants.Names()...)
	f.IntVar(&count, "count", 100, "variants to write")
	f.IntVar(&benign, "benign", 0, "benign payloads to write in addition")
	f.Uint64Var(&first, "first", 0, "number of the first variant: other numbers are other variants")
	f.Uint64Var(&seed, "seed", 1, "seed of the worm and of its variants")
	f.Float64Var(&r.Substitution, "substitution", r.Substitution, "share of malicious bytes replaced")
	f.BoolVar(&r.Transpose, "transpose", false, "shuffle the worm's blocks")
	f.IntVar(&r.CarrierMax, "carrier", r.CarrierMax, "most benign bytes around a variant")
	return cmd
}

type label struct {
	File   string `json:"file"`
	Family string `json:"family"` // empty for benign
	Offset int    `json:"offset"`
	Length int    `json:"length"`
}

func writeVariants(dir string, r variants.Recipe, t *variants.Template, seed, first uint64, count, benign int) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	labels, err := os.Create(filepath.Clean(dir) + ".labels.jsonl")
	if err != nil {
		return err
	}
	defer labels.Close()
	enc := json.NewEncoder(labels)
	// The order reveals nothing: variants and benign payloads are mixed.
	order := rand.New(rand.NewPCG(seed, first)).Perm(count + benign)
	for i, k := range order {
		l := label{File: fmt.Sprintf("%05d.bin", i)}
		var b []byte
		if k < count {
			v := r.Make(t, seed, first+uint64(k))
			b, l.Family, l.Offset, l.Length = v.Bytes, t.Name, v.Offset, v.Length
		} else {
			b = r.Mislead(seed, first+uint64(k))
		}
		if err := os.WriteFile(filepath.Join(dir, l.File), b, 0o644); err != nil {
			return err
		}
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return labels.Close()
}
