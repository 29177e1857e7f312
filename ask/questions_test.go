package ask_test

import (
	"os"
	"regexp"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// TestOperatorsQuestionsArePermitted: a witness with the default policy answers each
// question of the page, once two organisations asked it. The page itself runs beside the
// program, on files.
func TestOperatorsQuestionsArePermitted(t *testing.T) {
	page, err := os.ReadFile("../docs/how-to/ask-questions.md")
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`dragnet pattern explain '([^']+)'`).FindAllStringSubmatch(string(page), -1)
	if len(asked) != 15 {
		t.Errorf("the page has %d patterns, and says that it has 15", len(asked))
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	rules := policy.Default()
	for _, m := range asked {
		p := parse(t, m[1])
		c := config(func(c *detective.Configuration) {
			c.Hash = key.Hash{Kind: key.Linear, Bits: uint8(key.FitBits(100, c.Epoch, detective.Tuples(p)))}
			c.Window = flow.Window{From: flow.FromTime(now.Add(-time.Hour)), To: flow.FromTime(now)}
		})
		q, err := detective.New(c, p)
		if err != nil {
			t.Fatal(err)
		}
		var question dossier.Question
		if err := question.UnmarshalBinary(q.Question()); err != nil {
			t.Fatal(err)
		}
		if v := rules.Judge(now, policy.Asker{ID: "a", Class: "org:a"}, &question, policy.History{Others: 1}); v.Refusal != dossier.Answered {
			t.Errorf("%s: %s", m[1], v.Reason)
		}
	}
}
