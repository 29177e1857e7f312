package rules_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/publish/rules"
	"dragnet/signature"
	"dragnet/signature/match"
	"dragnet/signature/pads"
	"dragnet/signature/tokens"
	"dragnet/simulate/variants"
)

// TestYARAFindsVariants learns a signature of a family's variants, exports it,
// and has Debian's YARA and our matcher look at new variants and clean payloads.
// It prints how much of what the matcher finds YARA finds.
func TestYARAFindsVariants(t *testing.T) {
	testkit.Long(t)
	yara := testkit.Tool(t, "yara")
	clean := func(n int, seed uint64) (all [][]byte) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for range n {
			all = append(all, variants.Session(rng, 5000))
		}
		return all
	}
	template, err := variants.Family("alder", 1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.Learn(context.Background(), variants.Published().MakeAll(template, 1, 0, 60), signature.NewClean(clean(60, 1), nil), signature.Options{Name: "alder", Options: pads.Options{Restarts: 2, Method: pads.EM}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		t.Fatal(err)
	}
	lowered, err := tokens.Lower(s, tokens.Options{Most: 12, FalseAlarms: 0.001})
	if err != nil {
		t.Fatal(err)
	}
	const n = 200
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	matched := map[string]bool{}
	for i := range n {
		payload := variants.Published().Make(template, 1, 1<<32+uint64(i)).Bytes
		name := fmt.Sprintf("variant%03d", i)
		matched[name] = m.Match(payload)[0].Match
		write(name, payload)
	}
	for i, payload := range clean(n, 2) {
		write(fmt.Sprintf("clean%03d", i), payload)
	}
	var rule bytes.Buffer
	if err := rules.Writers()["yara"](&rule, lowered); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alder.yara")
	if err := os.WriteFile(path, rule.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(yara, path, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("yara: %v: %s", err, out)
	}
	ours, both, alarms := 0, 0, strings.Count(string(out), "/clean")
	for name, found := range matched {
		if found {
			ours++
			if strings.Contains(string(out), "/"+name+"\n") {
				both++
			}
		}
	}
	t.Logf("of %d variants the matcher finds %d, and YARA %d of those by %d strings (the export expects to miss %.1f %%); YARA alarms on %d of %d clean payloads",
		n, ours, both, len(lowered.Contents), 100*lowered.Loss, alarms, n)
	if ours < n*9/10 || alarms > 0 || float64(both) < float64(ours)*(1-lowered.Loss-0.1) {
		t.Errorf("matcher %d, YARA %d of them, %d alarms: YARA finds less than the export promised", ours, both, alarms)
	}
}
