package pads_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature/pads"
	"dragnet/simulate/variants"
)

func clean() (*dossier.Background, *pads.Grams) {
	var counts [256]uint64
	g := pads.NewGrams()
	rng := rand.New(rand.NewPCG(5, 5))
	for range 80 {
		s := variants.Session(rng, 6000)
		g.Add(s)
		for _, b := range s {
			counts[b]++
		}
	}
	return dossier.NewBackground(&counts), g
}

func recipe() variants.Recipe {
	r := variants.Published()
	r.CarrierMax = 5 << 10
	return r
}

func template(t testing.TB, name string) *variants.Template {
	t.Helper()
	tpl, err := variants.Family(name, 1)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

// TestFindsTheWorm compares the regions found with where the generator put
// the worm: the truth is known.
func TestFindsTheWorm(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	r := recipe()
	for _, method := range []pads.Method{pads.EM, pads.Gibbs} {
		for _, name := range variants.Names() {
			var samples [][]byte
			var truth []variants.Variant
			for i := range uint64(40) {
				v := r.Make(template(t, name), 9, i)
				samples, truth = append(samples, v.Bytes), append(truth, v)
			}
			a, err := pads.Learn(context.Background(), samples, bg, pads.Options{Width: 30, Method: method, Restarts: 2, Seed: 1, Normal: normal})
			if err != nil {
				t.Fatal(err)
			}
			inside := 0
			for i, start := range a.Starts {
				if start != pads.Absent && start+15 >= truth[i].Offset && start+15 < truth[i].Offset+truth[i].Length {
					inside++
				}
			}
			if inside < 38 {
				t.Errorf("%s, %s: only %d of 40 regions lie in the worm", name, method, inside)
			}
			if a.Mean < 4.5 {
				t.Errorf("%s, %s: mean score %.2f; the worm's bytes allow more than 4.5", name, method, a.Mean)
			}
		}
	}
}

func TestSameSeedSameSignatureOnAnyNumberOfWorkers(t *testing.T) {
	bg, _ := clean()
	samples := recipe().MakeAll(template(t, "cedar"), 2, 0, 15)
	var first *pads.Alignment
	for _, workers := range []int{1, 4} {
		a, err := pads.Learn(context.Background(), samples, bg, pads.Options{Width: 20, Seed: 3, Published: true, Rounds: 6, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = a
		} else if d := cmp.Diff(first, a, cmpopts.EquateNaNs()); d != "" {
			t.Errorf("one worker and four differ:\n%s", d)
		}
	}
}

// TestScoresAreThoseOfTheEquation recomputes Omega from the block that was
// returned.
func TestScoresAreThoseOfTheEquation(t *testing.T) {
	bg, normal := clean()
	samples := recipe().MakeAll(template(t, "alder"), 2, 0, 20)
	a, err := pads.LearnWidth(context.Background(), samples, bg, pads.Options{Width: 60, Seed: 3, Normal: normal}, 16)
	if err != nil {
		t.Fatal(err)
	}
	w := a.Block.Weights(bg)
	for i, start := range a.Starts {
		if start == pads.Absent {
			continue
		}
		sum := 0.0
		for p := range w {
			sum += w[p][samples[i][start+p]]
		}
		if got := sum / float64(len(w)); math.Abs(got-a.Scores[i]) > 1e-4 {
			t.Errorf("sample %d scores %v, its region %v", i, a.Scores[i], got)
		}
	}
}

func TestSamplesWithoutTheWormAreLeftOut(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	samples := recipe().MakeAll(template(t, "birch"), 2, 0, 24)
	for i := range uint64(10) {
		samples = append(samples, recipe().Mislead(8, i))
	}
	a, err := pads.Learn(context.Background(), samples, bg, pads.Options{Width: 40, Seed: 1, Normal: normal})
	if err != nil {
		t.Fatal(err)
	}
	for i, start := range a.Starts[24:] {
		if start != pads.Absent {
			t.Errorf("sample %d holds no worm, but a region at %d", 24+i, start)
		}
	}
	if a.Present < 22 {
		t.Errorf("%d of 24 samples take part", a.Present)
	}
}

func TestNormalStringsAreNotLearnt(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	common := bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef, 0x99, 0x88, 0x77, 0x66, 0x55}, 6) // 54 rare bytes
	normal.Add(common)
	rng := rand.New(rand.NewPCG(1, 1))
	var samples [][]byte
	for range 12 {
		samples = append(samples, append(variants.Session(rng, 2000), common...))
	}
	share := func(n *pads.Grams) float64 {
		a, err := pads.Learn(context.Background(), samples, bg, pads.Options{Width: 30, Seed: 1, Normal: n})
		if err != nil {
			t.Fatal(err)
		}
		in := 0.0
		for i, start := range a.Starts {
			if start >= 2000-15 {
				in++
			}
			_ = i
		}
		return in / float64(len(samples))
	}
	if got := share(nil); got < 0.9 {
		t.Errorf("without exclusion the common string should win, it has %.0f %%", 100*got)
	}
	if got := share(normal); got > 0 {
		t.Errorf("a string of normal traffic was learnt in %.0f %% of the samples", 100*got)
	}
}

func TestPartsAreCut(t *testing.T) {
	testkit.Long(t)
	bg, normal := clean()
	samples := recipe().MakeAll(template(t, "cedar"), 3, 0, 30)
	all, err := pads.LearnMulti(context.Background(), samples, bg, pads.Options{Width: 24, Seed: 1, Restarts: 2, Normal: normal}, pads.Multi{Parts: 3, Present: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Fatalf("%d parts found in a worm of 376 bytes", len(all))
	}
	for i, start := range all[0].Starts {
		if other := all[1].Starts[i]; start != pads.Absent && other != pads.Absent && max(start, other)-min(start, other) < 24 {
			t.Errorf("sample %d: parts at %d and %d overlap", i, start, other)
		}
	}
}

func TestDegenerateSamples(t *testing.T) {
	bg, _ := clean()
	text := []byte("the same long enough text in all of the samples")
	for name, c := range map[string]struct {
		samples [][]byte
		width   int
		want    error
	}{
		"none":               {nil, 10, pads.ErrTooFewSamples},
		"empty and one byte": {[][]byte{{}, {1}, {2}}, 2, pads.ErrTooFewSamples},
		"shorter than W":     {[][]byte{text, text, []byte("short")}, 40, nil},
		"identical":          {[][]byte{text, text, text}, 8, nil},
		"all different":      {[][]byte{[]byte("aaaaaaaaaaaa"), []byte("bbbbbbbbbbbb"), []byte("cccccccccccc")}, 4, nil},
		"width 0":            {[][]byte{text, text}, -1, pads.ErrWidth},
		"width 1":            {[][]byte{text, text}, 1, nil},
	} {
		a, err := pads.Learn(context.Background(), c.samples, bg, pads.Options{Width: c.width, Rounds: 5, Restarts: 2})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if err == nil {
			s := dossier.Signature{Name: "d", Background: *bg, Parts: []dossier.Part{{Blocks: []dossier.Block{a.Block}}}}
			if err := s.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	bg, _ := clean()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := pads.Learn(ctx, recipe().MakeAll(template(t, "alder"), 1, 0, 10), bg, pads.Options{Width: 50}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func BenchmarkLearn(b *testing.B) {
	bg, normal := clean()
	samples := variants.Published().MakeAll(template(b, "alder"), 1, 0, 100)
	for _, method := range []pads.Method{pads.EM, pads.Gibbs} {
		b.Run("100x2-20KB/W=100/"+string(method), func(b *testing.B) {
			for b.Loop() {
				a, err := pads.Learn(context.Background(), samples, bg, pads.Options{Width: 100, Method: method, Restarts: 2, Normal: normal})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(a.Mean, "score")
			}
		})
	}
}
