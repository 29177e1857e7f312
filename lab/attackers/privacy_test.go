package attackers_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/flow/key"
)

// TestPagesAreBacked: each statement of docs/explanation/privacy.md and abuse.md names a
// test that exists, or a row of the table.
func TestPagesAreBacked(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"privacy.md", "abuse.md"} {
		page, err := os.ReadFile("../../docs/explanation/" + name)
		if err != nil {
			t.Fatal(err)
		}
		wantBacked(t, name, string(page), tests)
	}
}

func wantBacked(t *testing.T, name, page string, tests map[string]bool) {
	t.Helper()
	statements := regexp.MustCompile(`(?m)^- ((?:.+\n)(?:  .+\n)*)`).FindAllStringSubmatch(page, -1)
	if len(statements) < 20 {
		t.Fatalf("%s: %d statements found", name, len(statements))
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	for _, s := range statements {
		found := named.FindAllStringSubmatch(s[1], -1)
		if len(found) == 0 && !strings.Contains(s[1], "row `") {
			t.Errorf("%s: nothing backs %q", name, s[1])
		}
		for _, f := range found {
			if !tests[f[1]] {
				t.Errorf("%s: no test is called %s", name, f[1])
			}
		}
	}
}

const today = "2026-11-22"

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// TestMasksByDefault: the default policy answers about addresses and small networks,
// and about nothing wider.
func TestMasksByDefault(t *testing.T) {
	rules := policy.Default()
	rules.Independent = 1
	for text, want := range map[string]dossier.Refusal{
		"addr4/32": dossier.Answered, "addr4/32+dport+proto": dossier.Answered, "addr4/24+dport": dossier.Answered, "addr6/48": dossier.Answered,
		"addr4/23": dossier.NotPermitted, "addr4/12": dossier.NotPermitted, "addr6/47": dossier.NotPermitted,
		"dport": dossier.NotPermitted, "dport+proto": dossier.NotPermitted, "addr4/32+sport": dossier.NotPermitted,
	} {
		m, err := key.ParseMask(text)
		if err != nil {
			t.Fatal(err)
		}
		q := dossier.Question{Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 8}, Epoch: today, Clues: []dossier.AskedClue{{
			End: key.Out, Mask: m, Salt: key.OneShotSalt(m, today), Keys: []dossier.AskedKey{{K: 7}},
		}}}
		if got := rules.Judge(noon, policy.Asker{ID: "a", Class: "org:a"}, &q, policy.History{}); got.Refusal != want {
			t.Errorf("%s: %v (%s), want %v", text, got.Refusal, got.Reason, want)
		}
	}
}
