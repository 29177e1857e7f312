package padsfigures

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"dragnet/dossier"
	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/signature/baseline"
	"dragnet/signature/family"
	"dragnet/signature/match"
	learn "dragnet/signature/pads"
	"dragnet/simulate/variants"
)

// figure12 separates two worms with the PADS similarity, and with the naive
// similarities of the paper.
func figure12(_ context.Context, x *experiment, r *report.Report) error {
	var samples []*family.Sample
	half := x.train / 2
	for _, name := range []string{"alder", "birch"} {
		template, err := variants.Family(name, x.seed)
		if err != nil {
			return err
		}
		for _, s := range variants.Published().MakeAll(template, x.seed, 0, half) {
			samples = append(samples, family.NewSample(s, x.clean.Strings))
		}
	}
	table := report.Table{Title: "First cut (paper: PADS separates 50 and 50 without error)", Header: []string{"similarity", "wrong", "mean within", "mean across", "families found"}}
	var drawings []plot.Drawing
	everyone := make([]int, len(samples))
	for i := range everyone {
		everyone[i] = i
	}
	for _, by := range []struct {
		name    string
		similar family.Similarity
	}{{"PADS", family.PADS(x.clean.Background, 40)}, {"KL divergence", family.KL}, {"common substring", family.CommonSubstring}} {
		x.progress(by.name, 1)
		m := family.Matrix(samples, by.similar)
		cut, _ := family.Split(m, everyone)
		wrong := 0
		dots := [2]plot.Series{{Name: "alder", Kind: plot.Dots}, {Name: "birch", Kind: plot.Dots}}
		for i, y := range cut.Y {
			if (y > 0) != (i >= half) {
				wrong++
			}
			s := &dots[i/half]
			s.X, s.Y = append(s.X, float64(i+1)), append(s.Y, y)
		}
		families, _ := family.Cuts(m)
		table.Rows = append(table.Rows, []string{by.name, strconv.Itoa(min(wrong, len(samples)-wrong)), fmt.Sprintf("%.2f", cut.Within), fmt.Sprintf("%.2f", cut.Across), strconv.Itoa(len(families))})
		drawings = append(drawings, plot.Heat{Title: by.name, XLabel: "variant", YLabel: "variant", ValueLabel: "similarity", Cells: m},
			plot.Chart{Title: "Eigenvector, " + by.name, X: plot.Axis{Label: "variant"}, Y: plot.Axis{Label: "y"}, Series: dots[:]})
	}
	r.Tables = append(r.Tables, table)
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "Normalised cuts", Columns: 2, Drawings: drawings})
	r.Say("Strings of normal traffic do not count as alike, so unrelated samples are near 0 here; the paper's are near 4.")
	return nil
}

// runMixture learns from all families with shuffled and missing blocks and
// outliers.
func runMixture(ctx context.Context, x *experiment, r *report.Report) error {
	recipe := variants.Published()
	recipe.Transpose, recipe.MoveEntry, recipe.Drop = true, true, 0.1
	table := report.Table{Title: "Families found by the block mixture", Header: []string{"family", "members", "of the same worm", "blocks", "new variants missed", "taken for another", "clean payloads matched"}}
	var samples [][]byte
	var truth []string
	for _, name := range variants.Names() {
		template, err := variants.Family(name, x.seed)
		if err != nil {
			return err
		}
		for _, s := range recipe.MakeAll(template, x.seed, 0, x.train/2) {
			samples, truth = append(samples, s), append(truth, name)
		}
	}
	for i := range x.train / 10 {
		samples, truth = append(samples, recipe.Mislead(x.seed, uint64(i))), append(truth, "none")
	}
	x.progress("mixture", 1)
	m, err := family.Learn(ctx, "mixture", samples, x.clean.Background, family.MixtureOptions{Normal: x.clean.Strings, Blocks: 64}, 8, x.seed)
	if err != nil {
		return err
	}
	matcher, err := match.New(m.Signatures, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return err
	}
	alarms := make([]int, len(m.Families))
	for _, payload := range x.normal {
		for k, v := range matcher.Match(payload) {
			if v.Match {
				alarms[k]++
			}
		}
	}
	for f, members := range m.Families {
		name := truth[members[0]]
		same := 0
		for _, i := range members {
			if truth[i] == name {
				same++
			}
		}
		missed, other := 0, 0
		if template, err := variants.Family(name, x.seed); err == nil {
			for i := range x.test {
				missed, other = countErrors(matcher.Match(recipe.Make(template, x.seed, 1<<32+uint64(i)).Bytes), f, missed, other)
			}
		}
		table.Rows = append(table.Rows, []string{name, strconv.Itoa(len(members)), strconv.Itoa(same), strconv.Itoa(len(m.Signatures[f].Parts)),
			formatRate(missed, x.test), formatRate(other, x.test), formatRate(alarms[f], len(x.normal))})
	}
	r.Tables = append(r.Tables, table)
	r.Say("%d samples of %d worms, blocks in any order and each left out with 10 %% chance, and %d samples without a worm; %d blocks found, %d samples belong to no family.",
		len(samples), len(variants.Names()), x.train/10, len(m.Components), len(m.Outliers))
	if joined := x.train/10 - len(m.Outliers); joined > 0 {
		r.Say("About %d of the samples without a worm joined a family: what makes a member is the distance of its features, and where a family is wide, or has few members, a sample that lacks all of its blocks is not far enough.", joined)
	}
	return nil
}

// countErrors counts a variant of family f that f's signature misses, or that
// another signature matches as well.
func countErrors(all []match.Result, f, missed, other int) (int, int) {
	if !all[f].Match {
		return missed + 1, other
	}
	for k, v := range all {
		if k != f && v.Match && v.Family >= all[f].Family {
			return missed, other + 1
		}
	}
	return missed, other
}

// runPoisoning adds a growing share of samples without a worm but with a decoy,
// which the true samples have too (Perdisci et al., IEEE S&P 2006). New
// variants do not have the decoy.
func runPoisoning(ctx context.Context, x *experiment, r *report.Report) error {
	chart := plot.Chart{Title: "Misses of new variants", X: plot.Axis{Label: "misleading samples (%)"}, Y: plot.Axis{Label: "misses", Min: 0, Max: 1}}
	table := report.Table{Title: "Misses and false alarms when samples mislead", Header: []string{"misleading", "method", "missed", "clean payloads matched"}}
	names := []string{"mixture of blocks (ours)", "one PADS, threshold 0 (published)", "longest common substring", "token subsequence", "Bayes"}
	series := make([]plot.Series, len(names))
	for _, share := range []int{0, 10, 20, 30, 40, 50, 60} {
		x.progress(fmt.Sprintf("%d %% misleading", share), 1)
		detectors, tests, err := x.trainPoisoned(ctx, share)
		if err != nil {
			return err
		}
		for k, detect := range detectors {
			missed, alarms := 0, 0
			for _, payload := range tests {
				if !detect(payload) {
					missed++
				}
			}
			for _, payload := range x.normal {
				if detect(payload) {
					alarms++
				}
			}
			series[k].Name = names[k]
			series[k].X, series[k].Y = append(series[k].X, float64(share)), append(series[k].Y, float64(missed)/float64(len(tests)))
			table.Rows = append(table.Rows, []string{fmt.Sprintf("%d%%", share), names[k], formatRate(missed, len(tests)), formatRate(alarms, len(x.normal))})
		}
	}
	chart.Series = series
	r.Tables = append(r.Tables, table)
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: chart.Title, Drawings: []plot.Drawing{chart}})
	return nil
}

// trainPoisoned trains every method on samples of which share percent mislead.
func (x *experiment) trainPoisoned(ctx context.Context, share int) (detectors []func([]byte) bool, tests [][]byte, err error) {
	template, err := variants.Family("alder", x.seed)
	if err != nil {
		return nil, nil, err
	}
	decoy := make([]byte, 80)
	for i, rng := 0, rand.New(rand.NewPCG(x.seed, 4242)); i < len(decoy); i++ {
		decoy[i] = byte(rng.Uint32())
	}
	recipe := variants.Published()
	tests = recipe.MakeAll(template, x.seed, 1<<32, x.test)
	recipe.Decoy = decoy
	samples := recipe.MakeAll(template, x.seed, 0, x.train*(100-share)/100)
	for i := range x.train * share / 100 {
		samples = append(samples, recipe.Mislead(x.seed, uint64(i)))
	}
	m, err := family.Learn(ctx, "poisoned", samples, x.clean.Background, family.MixtureOptions{Normal: x.clean.Strings}, 5, x.seed)
	if err != nil {
		return nil, nil, err
	}
	a, err := learn.Learn(ctx, samples, x.clean.Background, learn.Options{Width: 64, Seed: x.seed, Published: true, Restarts: 3, Workers: 2})
	if err != nil {
		return nil, nil, err
	}
	single := []*dossier.Signature{{Name: "single", Background: *x.clean.Background, Parts: []dossier.Part{{Blocks: []dossier.Block{a.Block}}}}}
	for _, signatures := range [][]*dossier.Signature{m.Signatures, single} {
		matcher, err := match.New(signatures, match.Options{Kernel: match.Fastest()})
		if err != nil {
			return nil, nil, err
		}
		detectors = append(detectors, func(payload []byte) bool {
			for _, v := range matcher.Match(payload) {
				if v.Match {
					return true
				}
			}
			return false
		})
	}
	few := samples[:min(len(samples), 40)]
	few = append(few[:len(few):len(few)], samples[max(0, len(samples)-20):]...) // some of both kinds
	for _, d := range []baseline.Detector{baseline.LearnSubstring(few), baseline.LearnSubsequence(few), baseline.LearnBayes(few, x.normal[:len(x.normal)/2], 0.01)} {
		detectors = append(detectors, d.Match)
	}
	return detectors, tests, nil
}
