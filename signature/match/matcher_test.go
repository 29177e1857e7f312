package match_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature/match"
)

var sameVerdict = cmpopts.IgnoreUnexported(match.PartScore{})

func signature(name string, parts ...dossier.Part) *dossier.Signature {
	return &dossier.Signature{Name: name, Background: *textBackground(), Parts: parts}
}

func single(b dossier.Block, threshold float64) dossier.Part {
	return dossier.Part{Blocks: []dossier.Block{b}, Threshold: threshold}
}

func newMatcher(t testing.TB, k match.Kernel, signatures ...*dossier.Signature) *match.Matcher {
	t.Helper()
	for _, s := range signatures {
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	}
	m, err := match.New(signatures, match.Options{Kernel: k})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// gapped is two blocks a little apart, with the payload that fits them best.
func gapped(rng *rand.Rand) (dossier.Part, func(gap int) []byte) {
	a, b := randomBlock(rng, 20), randomBlock(rng, 12)
	b.Gap = dossier.Gap{Min: 2, Max: 9}
	return dossier.Part{Blocks: []dossier.Block{a, b}, Threshold: 6}, func(gap int) []byte {
		return slices.Concat(likely(&a), bytes.Repeat([]byte{'e'}, gap), likely(&b))
	}
}

func TestChunksDoNotMatter(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	rng := rand.New(rand.NewPCG(11, 12))
	gap, build := gapped(rng)
	var all []*dossier.Signature
	for i := range 20 { // enough for the prefilter
		all = append(all, signature(fmt.Sprintf("s%d", i), single(randomBlock(rng, 24+i), 3.5)))
	}
	all = append(all, signature("gapped", gap), signature("loose", single(randomBlock(rng, 10), 0)),
		&dossier.Signature{Name: "exact", Exact: []dossier.Exact{{Bytes: []byte("whole captured copy")}}})
	family := signature("family", single(randomBlock(rng, 30), 2), single(randomBlock(rng, 16), 2))
	family.Family = &dossier.Family{Prior: []float64{1e-4, 1e-4}, Mean: []float64{5, 4}, Covariance: [][]float64{{1, 0.2}, {0.2, 2}}, Distance: 9}
	all = append(all, family)
	m := newMatcher(t, match.Fastest(), all...)
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 0))
		data := payload(rng, rapid.IntRange(0, 90000).Draw(t, "bytes"), &all[rng.IntN(20)].Parts[0].Blocks[0])
		for _, piece := range [][]byte{build(rng.IntN(12)), []byte("whole captured copy"), likely(&family.Parts[0].Blocks[0]), likely(&family.Parts[1].Blocks[0])} {
			data = slices.Insert(data, rng.IntN(len(data)+1), piece...)
		}
		want := m.Match(data)
		s := m.NewStream()
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(1+rng.IntN(1<<rng.IntN(17))))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		if d := cmp.Diff(want, s.Close(), sameVerdict); d != "" {
			t.Fatalf("seed %d: chunks changed the verdict (-whole +chunks):\n%s", seed, d)
		}
	})
}

// TestPrefilterChangesNothing compares many signatures at once, where the
// prefilter works, with each alone, where it does not.
func TestPrefilterChangesNothing(t *testing.T) {
	testkit.Long(t) // one goroutine
	rng := rand.New(rand.NewPCG(21, 22))
	var all []*dossier.Signature
	for i := range 40 {
		all = append(all, signature(fmt.Sprintf("s%d", i), single(randomBlock(rng, 30), []float64{3.6, 4.2, 5, 0}[i%4])))
	}
	together := newMatcher(t, match.Fastest(), all...)
	matched := 0
	for i := range 24 {
		data := payload(rng, 12000, &all[i%40].Parts[0].Blocks[0])
		for j, got := range together.Match(data) {
			if j%8 != i%8 {
				continue
			}
			alone := newMatcher(t, match.Portable, all[j])
			want := alone.Match(data)[0]
			if d := cmp.Diff(want, got, sameVerdict); d != "" {
				t.Fatalf("payload %d, signature %d (-alone +together):\n%s", i, j, d)
			}
			if got.Match {
				matched++
			}
		}
	}
	if matched < 20 {
		t.Errorf("only %d matches: the comparison says little", matched)
	}
}

func TestGapsHoldWithinTheirRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	part, build := gapped(rng)
	m := newMatcher(t, match.Fastest(), signature("gapped", part))
	for gap := range 13 {
		data := slices.Concat(bytes.Repeat([]byte("text "), 50), build(gap), bytes.Repeat([]byte(" text"), 50))
		v := m.Match(data)[0]
		if want := gap >= 2 && gap <= 9; v.Match != want {
			t.Errorf("gap %d: match %v, want %v (%+v)", gap, v.Match, want, v.Parts)
		}
		if v.Match && v.Parts[0].Omega < 5 {
			t.Errorf("gap %d: best placement scores %v only", gap, v.Parts[0].Omega)
		}
	}
}

func TestQuorum(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	a, b := randomBlock(rng, 20), randomBlock(rng, 20)
	onlyA := slices.Concat([]byte("some text before "), likely(&a), []byte(" and some behind"))
	for quorum, want := range map[int]bool{0: false, 1: true, 2: false} {
		s := signature("q", single(a, 2), single(b, 2))
		s.Quorum = quorum
		if v := newMatcher(t, match.Fastest(), s).Match(onlyA)[0]; v.Match != want {
			t.Errorf("quorum %d with one of two parts present: match %v, want %v", quorum, v.Match, want)
		}
	}
}

func TestNoWindowReachesAcrossALoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(51, 52))
	b := randomBlock(rng, 40)
	m := newMatcher(t, match.Fastest(), signature("s", single(b, 3)))
	w := likely(&b)
	s := m.NewStream()
	s.Write(w[:20])
	s.Lost(0)
	s.Write(w[20:])
	s.Lost(1000)
	s.Write([]byte("xx"))
	s.Write(w)
	if v := s.Close()[0]; !v.Match || v.Parts[0].At != 20+20+1000+2 {
		t.Errorf("want only the window behind the loss, at 1042; got %+v", v)
	}
}

func BenchmarkManySignatures(b *testing.B) {
	rng := rand.New(rand.NewPCG(61, 62))
	for _, threshold := range []float64{2, 5} {
		var all []*dossier.Signature
		for i := range 100 {
			all = append(all, signature(fmt.Sprintf("s%d", i), single(randomBlock(rng, 30), threshold)))
		}
		data := payload(rng, 1<<20, &all[0].Parts[0].Blocks[0])
		for _, k := range match.Kernels() {
			m := newMatcher(b, k, all...)
			m.Match(data) // filters are made when first needed, in about 0.1 s each
			b.Run(fmt.Sprintf("100/W=30/omega=%v/%v", threshold, k), func(b *testing.B) {
				perCPU(b, len(data), func() { m.Match(data) })
			})
		}
	}
}
