package signature_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature"
	"dragnet/signature/baseline"
	"dragnet/signature/match"
	"dragnet/signature/pads"
	"dragnet/signature/sequence"
	"dragnet/simulate/variants"
)

func sessions(n int, seed uint64) (all [][]byte) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for range n {
		all = append(all, variants.Session(rng, 5000))
	}
	return all
}

func learn(t *testing.T, o signature.Options) (*dossier.Signature, *variants.Template) {
	t.Helper()
	template, err := variants.Family("alder", 1)
	if err != nil {
		t.Fatal(err)
	}
	o.Name, o.Restarts, o.Method = "alder", 2, pads.EM
	s, err := signature.Learn(context.Background(), variants.Published().MakeAll(template, 1, 0, 60), signature.NewClean(sessions(60, 1), nil), o)
	if err != nil {
		t.Fatal(err)
	}
	return s, template
}

func TestLearntSignatureFindsNewVariantsOnly(t *testing.T) {
	testkit.Long(t)
	for name, o := range map[string]signature.Options{"plain": {}, "auto": {Auto: true, Options: pads.Options{Width: 128}}, "parts": {Parts: 3}} {
		s, template := learn(t, o)
		m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
		if err != nil {
			t.Fatal(err)
		}
		missed, alarms := 0, 0
		for i := range 200 {
			if !m.Match(variants.Published().Make(template, 1, 1<<32+uint64(i)).Bytes)[0].Match {
				missed++
			}
		}
		for _, p := range sessions(200, 2) {
			if m.Match(p)[0].Match {
				alarms++
			}
		}
		most := 2 // 1 %
		if name == "parts" {
			most = 40 // all parts must match, and garbage splits some
		}
		if missed > most || alarms > 0 {
			t.Errorf("%s: %d of 200 variants missed, %d of 200 clean payloads matched", name, missed, alarms)
		}
	}
}

// TestNoAlarmOnRecordedTraffic checks the model's rate as a Poisson bound on
// all benign captures: at 0.001 per GB and some megabytes, none is expected.
func TestNoAlarmOnRecordedTraffic(t *testing.T) {
	testkit.Long(t)
	s, _ := learn(t, signature.Options{})
	m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		t.Fatal(err)
	}
	bytes, alarms := int64(0), 0
	for _, folder := range []string{"benign", "ndpi", "zeek-traces/Traces"} {
		c := &sequence.Collector{Most: 1 << 20, Total: 256 << 20}
		coverage, err := sequence.Each(context.Background(), testkit.Data(t, folder), nil, c.Open, nil)
		if err != nil {
			t.Fatal(err)
		}
		bytes += coverage.Bytes
		for _, p := range c.Sequences {
			if m.Match(p)[0].Match {
				alarms++
			}
		}
	}
	if bytes < 1<<20 {
		t.Fatalf("only %d bytes of benign traffic read", bytes)
	}
	// With expectation below 0.01, one alarm already has a chance below 1 %.
	if alarms > 0 {
		t.Errorf("%d alarms in %d bytes; the model expects %g", alarms, bytes, s.Parts[0].FalseAlarms*float64(bytes)/1e9)
	}
}

func TestFirstCopyGivesAnExactSignature(t *testing.T) {
	copies := [][]byte{[]byte("the captured bytes"), []byte("the captured bytes"), {}}
	s, err := signature.Learn(context.Background(), copies, signature.NewClean(nil, copies), signature.Options{Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := match.New([]*dossier.Signature{s}, match.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !m.Match([]byte("xx the captured bytes xx"))[0].Exact || m.Match([]byte("the captured byte"))[0].Match {
		t.Error("the exact signature does not match its own bytes only")
	}
	if _, err := signature.Learn(context.Background(), [][]byte{{}, nil}, signature.NewClean(nil, nil), signature.Options{Name: "none"}); err == nil {
		t.Error("a signature was learnt from nothing")
	}
}

// TestInterruptedLearningEnds: what looks for strings stops when it is cancelled.
func TestInterruptedLearningEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found := baseline.Tokens(ctx, sessions(20, 1), 0.5); found != nil {
		t.Errorf("%d tokens of a search that was cancelled", len(found))
	}
	if _, err := signature.Learn(ctx, sessions(20, 1), signature.NewClean(sessions(20, 2), nil), signature.Options{Name: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("learning, cancelled, ends with %v", err)
	}
}
