package signature_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature"
	"dragnet/signature/match"
	"dragnet/signature/sequence"
	"dragnet/signature/tokens"
	"dragnet/simulate/variants"
)

// captures are the sequences of the captures at hand, dealt into three by their
// content: see docs/explanation/signatures.md.
func captures(t testing.TB) [3][][]byte {
	c := &sequence.Collector{Most: 1 << 20, Total: 256 << 20}
	for _, folder := range []string{"benign", "ndpi", "zeek-traces/Traces"} {
		if _, err := sequence.Each(t.Context(), testkit.Data(t, folder), nil, c.Open, nil); err != nil {
			t.Fatal(err)
		}
	}
	return variants.Deal(c.Sequences)
}

// reported is the seed of the worms that nothing is tuned on.
const reported = 1001

// modeResult is what was learnt from samples of a mode, and how it does.
type modeResult struct {
	found  []int // of each worm's unseen variants
	lost   []int // of those, which the strings of no signature find
	noise  int   // sequences of captures that the strings match
	alarms [3]int
	// programs is how many of the machine's programs match, when all is reported.
	programs int
	all      []*dossier.Signature
	err      error
}

func tryMode(t testing.TB, m *variants.Mode, seed uint64, samples, unseen int, thirds [3][][]byte, programs [][]byte) (r modeResult) {
	training := m.Samples(seed, samples, variants.FromCorpus(thirds[0]))
	var err error
	if r.all, err = signature.LearnFamilies(t.Context(), training, signature.NewClean(thirds[0], nil), signature.Options{Name: m.Name}); err != nil {
		r.err = err
		return r
	}
	matcher, err := match.New(r.all, match.Options{Kernel: match.Fastest()})
	if err != nil {
		t.Fatal(err)
	}
	matches := func(all [][]byte) (n int) {
		for _, b := range all {
			for _, v := range matcher.Match(b) {
				if v.Match {
					n++
					break
				}
			}
		}
		return n
	}
	for k := range m.Worms() {
		all := m.Unseen(seed, k, unseen, variants.FromCorpus(thirds[1]))
		r.found = append(r.found, matches(all))
		lost := 0
		for _, b := range all {
			if matches([][]byte{b}) == 1 && !hasStrings(r.all, b) {
				lost++
			}
		}
		r.lost = append(r.lost, lost)
	}
	for i := range thirds {
		r.alarms[i] = matches(thirds[i])
		for _, b := range thirds[i] {
			if hasStrings(r.all, b) {
				r.noise++
			}
		}
	}
	r.programs = matches(programs)
	return r
}

// hasStrings reports whether the exported strings of one of the signatures match.
func hasStrings(all []*dossier.Signature, b []byte) bool {
	return slices.ContainsFunc(all, func(s *dossier.Signature) bool {
		n := 0
		if s.Strings == nil {
			return false
		}
		for _, c := range s.Strings.Contents {
			if tokens.Contains(b, c) {
				n++
			}
		}
		return n >= max(1, s.Strings.Least)
	})
}

func (r modeResult) String() string {
	if r.err != nil {
		return "refused: " + r.err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "found %v, strings lose %v of them; alarms %v, of strings %d, programs %d", r.found, r.lost, r.alarms, r.noise, r.programs)
	for _, s := range r.all {
		fmt.Fprintf(&b, "; %d parts, quorum %d", len(s.Parts), s.Quorum)
		for i := range s.Parts {
			fmt.Fprintf(&b, " [W=%d t=%.2f]", s.Parts[i].Width(), s.Parts[i].Threshold)
		}
		if e := s.Evaluation; e != nil {
			for _, k := range e.Tried {
				fmt.Fprintf(&b, "; %s %d/%d", k.Kind, k.Found, k.Alarms)
				if k.Kept {
					b.WriteString(" kept")
				}
			}
		}
		if s.Strings == nil {
			b.WriteString("; no strings")
		} else {
			fmt.Fprintf(&b, "; %d strings, of which %d must occur, loss %.3f of %d", len(s.Strings.Contents), max(1, s.Strings.Least), s.Strings.Loss, s.Strings.Tested)
		}
	}
	return b.String()
}

// TestModes prints how the learner does on modes: a few, or with MODES=tuning all that
// it may be tuned on, or with MODES=held-out, for the report, all.
func TestModes(t *testing.T) {
	testkit.Long(t)
	thirds := captures(t)
	which := os.Getenv("MODES")
	var programs [][]byte
	if which == "held-out" {
		c := &sequence.Collector{Most: 64 << 20, Total: 1 << 30}
		if _, err := sequence.Each(t.Context(), "/usr/bin", nil, c.Open, nil); err != nil {
			t.Fatal(err)
		}
		programs = c.Sequences
		t.Logf("thirds of %d, %d and %d sequences; %d programs", len(thirds[0]), len(thirds[1]), len(thirds[2]), len(programs))
	}
	for _, m := range variants.Modes() {
		if m.HeldOut && which != "held-out" || which == "" && !slices.Contains([]string{"registers", "percent-path", "decoy-some", "noise60"}, m.Name) {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			seed, unseen := uint64(1), 200
			if which == "held-out" {
				seed, unseen = reported, 1000
			}
			samples := 50
			if strings.HasPrefix(m.Name, "decoders") {
				samples = 100
			}
			began := time.Now()
			r := tryMode(t, &m, seed, samples, unseen, thirds, programs)
			t.Logf("%v in %v", r, time.Since(began).Round(time.Millisecond))
			if which == "" && (r.err != nil || slices.Min(r.found) < unseen*19/20 || r.alarms != [3]int{}) {
				t.Error("too few variants are found, or clean traffic is")
			}
		})
	}
}

// TestRefusesWhatIsNotSafe: no signature is made of samples that have nothing in
// common, nor of what clean traffic has in common.
func TestRefusesWhatIsNotSafe(t *testing.T) {
	testkit.Long(t)
	rng := rand.New(rand.NewPCG(5, 5))
	var random [][]byte
	for range 24 {
		b := make([]byte, 1000)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		random = append(random, b)
	}
	clean := signature.NewClean(sessions(80, 1), nil)
	for name, samples := range map[string][][]byte{"random bytes": random, "normal sessions": sessions(24, 7)} {
		s, err := signature.Learn(t.Context(), samples, clean, signature.Options{Name: "none"})
		if !errors.Is(err, signature.ErrUnsafe) {
			t.Errorf("%s: %+v, %v, want a refusal", name, s, err)
		}
	}
}

// TestEvaluationIsKept: the file says what was held out, and its strings are not in
// clean traffic.
func TestEvaluationIsKept(t *testing.T) {
	testkit.Long(t)
	template, err := variants.Family("cedar", 1)
	if err != nil {
		t.Fatal(err)
	}
	r := variants.Published()
	r.CarrierMax = 3 << 10
	clean := sessions(40, 1)
	s, err := signature.Learn(t.Context(), r.MakeAll(template, 1, 0, 24), signature.NewClean(clean, nil), signature.Options{Name: "cedar"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := dossier.EncodeSignature(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err = dossier.OpenSignature(file); err != nil {
		t.Fatal(err)
	}
	e := s.Evaluation
	if e == nil || e.Folds != 4 || e.Samples != 24 || e.Found < 22 || e.CleanSequences != 40 || e.Alarms != 0 || len(e.CleanDigest) != 64 {
		t.Fatalf("evaluation %+v", e)
	}
	// None of 40: 1 - 0.025^(1/40).
	if got := e.FalseAlarms; got.Low != 0 || math.Abs(got.High-0.0881) > 1e-4 {
		t.Errorf("interval %+v of no alarm on 40", got)
	}
	if s.Strings == nil {
		t.Fatal("no strings to export")
	}
	for _, c := range s.Strings.Contents {
		if slices.ContainsFunc(clean, func(b []byte) bool { return tokens.Contains(b, c) }) {
			t.Errorf("clean traffic holds %x", c.Bytes)
		}
	}
}

// TestTwoWormsAreToldApart: samples of two worms give a signature for each, those of
// one worm a single one.
func TestTwoWormsAreToldApart(t *testing.T) {
	testkit.Long(t)
	r := variants.Published()
	r.CarrierMax = 3 << 10
	clean := signature.NewClean(sessions(40, 1), nil)
	for names, want := range map[[2]string]int{{"cedar", "dogwood"}: 2, {"cedar", "cedar"}: 1} {
		var samples [][]byte
		for k, name := range names {
			template, err := variants.Family(name, 1)
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, r.MakeAll(template, 1, uint64(100*k), 24)...)
		}
		all, err := signature.LearnFamilies(t.Context(), samples, clean, signature.Options{Name: "pair"})
		if err != nil || len(all) != want {
			t.Errorf("%v: %d signatures, %v, want %d", names, len(all), err, want)
		}
		for _, s := range all {
			if s.Evaluation.Found < s.Evaluation.Samples*9/10 {
				t.Errorf("%v: %s finds %d of %d", names, s.Name, s.Evaluation.Found, s.Evaluation.Samples)
			}
		}
	}
}
