package family_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature/family"
	"dragnet/signature/match"
	"dragnet/signature/pads"
	"dragnet/simulate/variants"
)

// clean is normal traffic: its distribution and its strings.
func clean() (*dossier.Background, *pads.Grams) {
	var counts [256]uint64
	g := pads.NewGrams()
	rng := rand.New(rand.NewPCG(99, 9))
	for range 150 {
		s := variants.Session(rng, 8000)
		g.Add(s)
		for _, b := range s {
			counts[b]++
		}
	}
	return dossier.NewBackground(&counts), g
}

// short keeps the tests fast: 2 to 6 KB of carrier.
func short() variants.Recipe {
	r := variants.Published()
	r.CarrierMax = 6 << 10
	return r
}

// mixed is n variants of each named family and extra samples without a worm;
// truth is the family of each, -1 for none.
func mixed(t *testing.T, r variants.Recipe, n []int, extra int) (samples [][]byte, truth []int) {
	t.Helper()
	for f, name := range variants.Names()[:len(n)] {
		template, err := variants.Family(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.MakeAll(template, 5, uint64(f)<<32, n[f]) {
			samples, truth = append(samples, s), append(truth, f)
		}
	}
	for i := range extra {
		samples, truth = append(samples, r.Mislead(6, uint64(i))), append(truth, -1)
	}
	return samples, truth
}

// pure fails unless every family holds samples of one truth, all of them.
func pure(t *testing.T, families [][]int, truth []int, n []int) {
	t.Helper()
	if len(families) != len(n) {
		t.Fatalf("%d families found, there are %d: last %v", len(families), len(n), families[len(families)-1])
	}
	for _, members := range families {
		f := truth[members[0]]
		for _, i := range members {
			if truth[i] != f {
				t.Errorf("sample %d of family %d sits with family %d", i, truth[i], f)
			}
		}
		if f < 0 || len(members) != n[f] {
			t.Errorf("family %d: %d members found", f, len(members))
		}
	}
}

func TestCutsSeparateTwoWormsCompletely(t *testing.T) {
	bg, normal := clean()
	n := []int{20, 20}
	samples, truth := mixed(t, short(), n, 0)
	var prepared []*family.Sample
	for _, s := range samples {
		prepared = append(prepared, family.NewSample(s, normal))
	}
	families, outliers := family.Cuts(family.Matrix(prepared, family.PADS(bg, 40)))
	pure(t, families, truth, n)
	if len(outliers) > 0 {
		t.Errorf("outliers %v among samples that all belong to a worm", outliers)
	}
}

func TestOneFamilyIsNotCut(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	samples, truth := mixed(t, short(), []int{24}, 0)
	var prepared []*family.Sample
	for _, s := range samples {
		prepared = append(prepared, family.NewSample(s, normal))
	}
	families, _ := family.Cuts(family.Matrix(prepared, family.PADS(bg, 40)))
	pure(t, families, truth, []int{24})
}

func TestClusterFindsFamiliesBeyondItsSubset(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	n := []int{40, 30, 25, 20}
	samples, truth := mixed(t, short(), n, 10)
	r, err := family.Cluster(context.Background(), samples, bg, family.Options{Subset: 60, Normal: normal})
	if err != nil {
		t.Fatal(err)
	}
	pure(t, r.Families, truth, n)
	if len(r.Outliers) != 10 {
		t.Errorf("%d outliers, want the 10 samples without a worm", len(r.Outliers))
	}
}

func TestMixtureFindsFamiliesWithMovedAndMissingBlocks(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	r := short()
	r.Transpose, r.Drop, r.MoveEntry = true, 0.15, true
	n := []int{40, 40}
	samples, truth := mixed(t, r, n, 4)
	m, err := family.Learn(context.Background(), "m", samples, bg, family.MixtureOptions{Normal: normal}, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Families) != 2 {
		t.Fatalf("%d families found, there are 2", len(m.Families))
	}
	for _, members := range m.Families {
		strangers := 0
		for _, i := range members {
			if truth[i] != truth[members[0]] {
				strangers++
			}
		}
		if len(members) < 38 || strangers > 1 {
			t.Errorf("a family has %d members, %d of them strangers", len(members), strangers)
		}
	}
	for _, s := range m.Signatures {
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	}
	matcher, err := match.New(m.Signatures, match.Options{Kernel: match.Fastest()})
	if err != nil {
		t.Fatal(err)
	}
	missed, wrong, alarms := 0, 0, 0
	for f, members := range m.Families {
		template, _ := variants.Family(variants.Names()[truth[members[0]]], 1)
		for i := range 100 {
			verdicts := matcher.Match(r.Make(template, 77, uint64(i)).Bytes)
			own, other := verdicts[f], verdicts[1-f]
			switch {
			case !own.Match:
				missed++
			case other.Match && other.Family >= own.Family:
				wrong++
			}
		}
	}
	for i := range 200 {
		for _, v := range matcher.Match(r.Mislead(88, uint64(i))) {
			if v.Match {
				alarms++
			}
		}
	}
	if missed > 6 || wrong > 2 || alarms > 2 {
		t.Errorf("%d of 200 new variants missed, %d taken for the other family, %d of 200 clean payloads matched", missed, wrong, alarms)
	}
}

func TestNaiveSimilarities(t *testing.T) {
	a := family.NewSample([]byte("the common substring is abcdefgh here"), nil)
	b := family.NewSample([]byte("0123abcdefgh9876"), nil)
	if got := family.CommonSubstring(a, b); got != 8 {
		t.Errorf("longest common substring %v, want 8", got)
	}
	if ab, aa := family.KL(a, b), family.KL(a, a); aa != 1 || ab >= aa || ab != family.KL(b, a) {
		t.Errorf("KL similarity: self %v, other %v", aa, ab)
	}
}

func TestDegenerateSamples(t *testing.T) {
	bg, _ := clean()
	for name, samples := range map[string][][]byte{
		"none": nil, "empty": {{}, {}, {}, {}}, "one byte": {{1}, {1}, {2}}, "identical": slices.Repeat([][]byte{[]byte("all samples are the same, byte for byte, and long enough")}, 5),
	} {
		if _, err := family.Cluster(context.Background(), samples, bg, family.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		family.Learn(context.Background(), "d", samples, bg, family.MixtureOptions{}, 3, 1)
	}
}

func BenchmarkCluster2000(b *testing.B) {
	bg, normal := clean()
	var samples [][]byte
	for _, name := range variants.Names() {
		template, err := variants.Family(name, 1)
		if err != nil {
			b.Fatal(err)
		}
		samples = append(samples, variants.Published().MakeAll(template, 5, 0, 500)...)
	}
	for b.Loop() {
		r, err := family.Cluster(context.Background(), samples, bg, family.Options{Normal: normal})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(r.Families)), "families")
		b.ReportMetric(float64(len(r.Outliers)), "outliers")
	}
}
