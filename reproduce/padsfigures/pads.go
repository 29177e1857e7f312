// Package padsfigures reproduces the measurements of chapters 3 and 4 of Tang
// 2006, "Defending against Internet worms", on position-aware distribution
// signatures, with synthetic worms in place of real ones, and measures what
// they left open: mixtures and misleading samples.
package padsfigures

import (
	"context"
	"fmt"
	"math/rand/v2"

	"dragnet/dossier"
	"dragnet/reproduce/report"
	"dragnet/signature"
	"dragnet/signature/match"
	learn "dragnet/signature/pads"
	"dragnet/signature/sequence"
	"dragnet/simulate/variants"
)

// All lists these reproductions.
func All() []report.Reproduction {
	all := []report.Reproduction{
		makeEntry("pads-figure-3-11", "Mean score against iterations: EM and Gibbs from random starts", "section 3.7.1, Figure 3-11", figure11),
		makeEntry("pads-figure-3-12", "Normalised cuts of 50 variants each of two worms", "section 3.7.2, Figure 3-12", figure12),
		makeEntry("pads-figure-3-13", "Mean score against width and carrier length", "section 3.7.3, Figure 3-13", figure13),
		makeEntry("pads-figure-3-18", "False positives and negatives against width", "section 3.7.4, Figure 3-18", figure18),
		makeEntry("pads-figure-3-19", "The longest common substring and other string signatures", "section 3.7.5, Figure 3-19", figure19),
		makeEntry("pads-figure-3-20", "Byte frequencies of normal traffic and of a worm", "section 3.7.5, Figure 3-20", figure20),
		makeEntry("pads-figure-3-21", "Byte frequencies of padded variants", "section 3.7.5, Figure 3-21", figure21),
		makeEntry("pads-mixture", "Families and blocks of several worms at once", "chapter 4 (no figure)", runMixture),
		makeEntry("pads-poisoning", "Misses when samples mislead", "not in the paper", runPoisoning),
	}
	for i, name := range variants.Names() {
		all = append(all, makeEntry(fmt.Sprintf("pads-figure-3-%d", 14+i), "Scores of worm and normal traffic, family "+name,
			fmt.Sprintf("section 3.7.3, Figure 3-%d", 14+i), func(ctx context.Context, x *experiment, r *report.Report) error {
				return figure14(ctx, x, r, name)
			}))
	}
	return all
}

type runner func(context.Context, *experiment, *report.Report) error

func makeEntry(name, title, source string, run runner) report.Reproduction {
	r := report.Reproduction{Name: name, Title: title, Source: "Tang 2006, " + source, HasQuick: true}
	r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
		sizes := fullSize()
		if env.Quick {
			sizes = quickSize()
		}
		x, err := newExperiment(ctx, env, sizes)
		if err != nil {
			return nil, err
		}
		out := report.New(r)
		out.Say("Worms are synthetic: inert bytes made by the recipe of section 3.7 (10 %% substituted, garbage 1:9, carriers of 2 to 20 KB), seed %d and following. Normal traffic: %s.", x.seed, x.normalIs)
		if env.Quick {
			out.Say("Quick: %d samples to learn from and %d variants to test with, where there are %d and %d without --quick, and fewer widths: errors of a few per thousand cannot be told from none.",
				x.train, x.test, fullSize().train, fullSize().test)
		}
		return out, run(ctx, x, out)
	}
	return r
}

// size is the size of the experiments; tests use a smaller one.
type size struct {
	train, test, seeds int
	widths             []int
	lengths            []int // mean carrier bytes
}

func fullSize() size {
	return size{train: 100, test: 2000, seeds: 2, widths: []int{10, 20, 50, 100, 200, 500}, lengths: []int{3000, 10000, 20000, 40000, 70000}}
}

// quickSize takes minutes where fullSize takes hours.
func quickSize() size {
	return size{train: 60, test: 200, seeds: 1, widths: []int{10, 50, 200}, lengths: []int{3000, 20000}}
}

// way is a way to learn a signature.
type way struct {
	name      string
	method    learn.Method
	published bool
}

// ways are the paper's two methods: as published, with random starts and one occurrence in
// each sample, and improved, with starts from shared strings, shifts and absent samples.
func ways() []way {
	return []way{{"Gibbs", learn.Gibbs, false}, {"EM", learn.EM, false}, {"Gibbs, published", learn.Gibbs, true}, {"EM, published", learn.EM, true}}
}

// sayWays explains the rows of ways.
func sayWays(r *report.Report) {
	r.Say("Rows of \"published\" are learnt as the paper says, from random starts; the others by this program's learner, which starts from strings that samples share, shifts windows, lets samples lack the worm, and ends Gibbs sampling with EM steps, which is why its EM and Gibbs are alike.")
}

// experiment is the data shared by all entries.
type experiment struct {
	size
	seed     uint64
	clean    signature.Clean
	normal   [][]byte // for tests only; none of it is in clean
	normalIs string
	progress func(string, int)
}

func newExperiment(ctx context.Context, env report.Environment, s size) (*experiment, error) {
	x := &experiment{size: s, seed: 1, progress: env.Progress}
	rng := rand.New(rand.NewPCG(x.seed, 77))
	var clean [][]byte
	for i := range 200 + s.test {
		n := 2<<10 + rng.IntN(18<<10)
		if payload := variants.Session(rng, n); i < 200 {
			clean = append(clean, payload)
		} else {
			x.normal = append(x.normal, payload)
		}
	}
	x.normalIs = fmt.Sprintf("%d synthetic sessions to learn from, %d to test with", 200, s.test)
	if env.Data != "" {
		c := &sequence.Collector{Most: 64 << 10, Total: 64 << 20}
		for _, folder := range []string{"benign", "ndpi"} {
			if _, err := sequence.Each(ctx, env.Data+"/"+folder, nil, c.Open, nil); err != nil {
				return nil, fmt.Errorf("benign captures: %w", err)
			}
		}
		used := 0
		for i, payload := range c.Sequences {
			switch {
			case len(payload) < 200:
			case i%2 == 0:
				clean = append(clean, payload)
			default:
				x.normal = append(x.normal, payload)
				used++
			}
		}
		x.normalIs += fmt.Sprintf(", and %d recorded payloads to test with (as many to learn from)", used)
	}
	x.clean = signature.NewClean(clean, nil)
	return x, nil
}

// trial is one signature with its scores on new variants and normal traffic.
type trial struct {
	signature    *dossier.Signature
	training     float64 // mean score of the samples
	worm, normal []float64
}

// recipeFor makes variants whose carriers have mean bytes; 0 leaves the paper's 2
// to 20 KB.
func recipeFor(mean int) variants.Recipe {
	r := variants.Published()
	if mean > 0 {
		r.CarrierMin, r.CarrierMax = mean/2, mean*3/2
	}
	return r
}

// learnOnce learns a signature of width from train variants.
func (x *experiment) learnOnce(ctx context.Context, family string, by way, width, mean int, seed uint64) (*trial, error) {
	template, err := variants.Family(family, x.seed)
	if err != nil {
		return nil, err
	}
	r := recipeFor(mean)
	x.progress(fmt.Sprintf("%s, %s, width %d", family, by.name, width), 1)
	samples := r.MakeAll(template, seed, 0, x.train)
	o := learn.Options{Width: width, Method: by.method, Published: by.published, Seed: seed, Normal: x.clean.Strings, Restarts: 2, Workers: 2}
	a, err := learn.Learn(ctx, samples, x.clean.Background, o)
	if err != nil {
		return nil, err
	}
	t := &trial{training: a.Mean, signature: &dossier.Signature{Name: family, Background: *x.clean.Background, Parts: []dossier.Part{{Blocks: []dossier.Block{a.Block}}}}}
	return t, signature.Calibrate(t.signature, samples, 0.001)
}

// runTrial learns a signature and scores the test sets with it.
func (x *experiment) runTrial(ctx context.Context, family string, by way, width, mean int, seed uint64) (*trial, error) {
	t, err := x.learnOnce(ctx, family, by, width, mean, seed)
	if err != nil {
		return nil, err
	}
	template, err := variants.Family(family, x.seed)
	if err != nil {
		return nil, err
	}
	r := recipeFor(mean)
	m, err := match.New([]*dossier.Signature{t.signature}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return nil, err
	}
	for i := range x.test {
		t.worm = append(t.worm, m.Scores(0, r.Make(template, seed, 1<<32+uint64(i)).Bytes)[0])
	}
	for _, payload := range x.normal {
		if len(payload) >= width {
			t.normal = append(t.normal, m.Scores(0, payload)[0])
		}
	}
	return t, ctx.Err()
}

// errorRates are the errors at a threshold: worms at or below it, normal
// traffic above it.
func (t *trial) errorRates(threshold float64) (missed, alarms int) {
	for _, s := range t.worm {
		if s <= threshold {
			missed++
		}
	}
	for _, s := range t.normal {
		if s > threshold {
			alarms++
		}
	}
	return missed, alarms
}

func formatRate(k, n int) string {
	low, high := report.Wilson(k, n)
	return fmt.Sprintf("%.2f%% [%.2f, %.2f]", 100*float64(k)/float64(n), 100*low, 100*high)
}

func meanOf(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
