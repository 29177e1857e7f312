package audit_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/ask/witness/audit"
	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const today = "2026-11-22"

func open(t testing.TB) (*audit.Trail, *state.DB) {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "audit.db"))
}

func openAt(t testing.TB, address string) (*audit.Trail, *state.DB) {
	t.Helper()
	db, err := state.Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d, err := audit.Open(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	return d, db
}

// both runs a test on either kind of database.
func both(t *testing.T, f func(t *testing.T, address string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "audit.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, testkit.Postgres(t)) })
}

// asked is question n of a detective.
func asked(who string, n int) audit.VerifiedQuestion {
	m := key.Mask{Family: key.IPv4, Prefix: 32}
	a := audit.VerifiedQuestion{
		Asker: policy.Asker{ID: who, Class: "org:" + who}, Expires: noon.Add(time.Hour), ID: dossier.IDOf(fmt.Append(nil, who, n)), Via: "direct",
		Question: &dossier.Question{
			Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 12}, Epoch: today, Window: flow.AllTime,
			Clues: []dossier.AskedClue{{Mask: m, Salt: key.OneShotSalt(m, today), Keys: []dossier.AskedKey{{K: 5}}}},
		},
	}
	copy(a.Nonce[:], fmt.Sprint(who, n))
	return a
}

// alone are the default rules for one detective, about any mask.
func alone() policy.Rules {
	rules := policy.Default()
	rules.Independent, rules.Masks = 1, nil
	return rules
}

// TestEnvelopesServeOnce: an answered envelope is a replay, one that was started
// and not finished is taken up again without being counted twice.
func TestEnvelopesServeOnce(t *testing.T) { both(t, envelopesServeOnce) }

func envelopesServeOnce(t *testing.T, address string) {
	d, _ := openAt(t, address)
	rules := alone()
	rules.PerOrganisation.Questions = 2
	first, err := d.Begin(t.Context(), noon, &rules, asked("a", 1))
	if err != nil || first.Verdict.Refusal != dossier.Answered {
		t.Fatal(first, err)
	}
	again, err := d.Begin(t.Context(), noon, &rules, asked("a", 1)) // the witness was killed in between
	if err != nil || again.Number != first.Number || again.Verdict.Refusal != dossier.Answered {
		t.Fatal(again, err)
	}
	if err := d.Finish(t.Context(), noon, again, audit.Settlement{Answers: 3, Bytes: 1000}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Begin(t.Context(), noon, &rules, asked("a", 1)); !errors.Is(err, audit.ErrReplayed) {
		t.Errorf("an answered envelope: %v", err)
	}
	if err := d.Finish(t.Context(), noon, again, audit.Settlement{}); !errors.Is(err, audit.ErrReplayed) {
		t.Errorf("finished twice: %v", err)
	}
	if c, err := d.Begin(t.Context(), noon, &rules, asked("a", 2)); err != nil || c.Verdict.Refusal != dossier.Answered {
		t.Errorf("the second question of two: %+v, %v", c.Verdict, err)
	}
	if c, err := d.Begin(t.Context(), noon, &rules, asked("a", 3)); err != nil || c.Verdict.Refusal != dossier.OverBudget {
		t.Errorf("the third question of two: %+v, %v", c.Verdict, err)
	}
	if c, err := d.Begin(t.Context(), noon.Add(26*time.Hour), &rules, asked("a", 4)); err != nil || c.Verdict.Refusal != dossier.Answered {
		t.Errorf("a day later: %+v, %v", c.Verdict, err)
	}
	other := asked("a", 1)
	other.ID = dossier.IDOf([]byte("another question in the same envelope"))
	if _, err := d.Begin(t.Context(), noon, &rules, other); !errors.Is(err, audit.ErrReplayed) {
		t.Errorf("a nonce used again: %v", err)
	}
}

// TestEndlessRetries: what fails every time is not retried for ever.
func TestEndlessRetries(t *testing.T) {
	d, _ := open(t)
	rules := alone()
	for i := range 4 {
		_, err := d.Begin(t.Context(), noon, &rules, asked("a", 1))
		if (i < 3) != (err == nil) {
			t.Errorf("attempt %d: %v", i+1, err)
		}
	}
}

// TestFlood: refused questions fill the audit log only so far.
func TestFlood(t *testing.T) {
	d, _ := open(t)
	rules := alone()
	rules.PerOrganisation.Questions = 2
	for n := range 6 {
		c, err := d.Begin(t.Context(), noon, &rules, asked("a", n))
		switch {
		case n < 4 && (err != nil || (c.Verdict.Refusal == dossier.OverBudget) != (n >= 2)):
			t.Errorf("question %d: %q, %v", n, c.Verdict.Refusal, err)
		case n >= 4 && !errors.Is(err, audit.ErrFlood):
			t.Errorf("question %d: %v", n, err)
		}
	}
	if head, err := d.Verify(t.Context(), nil); err != nil || head.Entries != 4 {
		t.Error(head, err)
	}
	if _, err := d.Begin(t.Context(), noon, &rules, asked("b", 1)); err != nil {
		t.Errorf("another detective: %v", err)
	}
}

// TestIndependentDetectives: two of one organisation are one; what was asked
// about another time, or too long ago, does not count.
func TestIndependentDetectives(t *testing.T) { both(t, independentDetectives) }

func independentDetectives(t *testing.T, address string) {
	d, _ := openAt(t, address)
	rules := alone()
	rules.Independent = 2
	judge := func(now time.Time, a audit.VerifiedQuestion) dossier.Refusal {
		c, err := d.Begin(t.Context(), now, &rules, a)
		if err != nil {
			t.Fatal(err)
		}
		return c.Verdict.Refusal
	}
	mate := asked("a2", 1)
	mate.Asker.Class = "org:a"
	elsewhen := asked("b", 1)
	elsewhen.Question.Window = flow.Window{From: 1, To: 2}
	wider := asked("d", 1)
	wider.Question.Window = flow.Window{From: 1, To: 9}
	first := asked("a", 1)
	first.Question.Window = flow.Window{From: 2, To: 3}
	for i, step := range []struct {
		now  time.Time
		a    audit.VerifiedQuestion
		want dossier.Refusal
	}{
		{noon, first, dossier.AwaitingOthers},
		{noon, wider, dossier.AwaitingOthers}, // asks for more than the first did
		{noon, asked("a", 2), dossier.AwaitingOthers},
		{noon, mate, dossier.AwaitingOthers},
		{noon.Add(48 * time.Hour), asked("c", 0), dossier.AwaitingOthers},
		{noon.Add(time.Hour), asked("c", 1), dossier.Answered},
		{noon.Add(time.Hour), asked("a", 3), dossier.Answered},
		{noon.Add(48 * time.Hour), elsewhen, dossier.Answered}, // a and c asked about all time
	} {
		if got := judge(step.now, step.a); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

// TestOneOrganisationCannotSilenceOthers: refused questions, and many keys, use up
// the budget of their own organisation only.
func TestOneOrganisationCannotSilenceOthers(t *testing.T) {
	both(t, oneOrganisationCannotSilenceOthers)
}

func oneOrganisationCannotSilenceOthers(t *testing.T, address string) {
	d, _ := openAt(t, address)
	rules := alone()
	rules.PerOrganisation.Questions, rules.PerRoster.Questions = 10, 15
	answered := 0
	for n := range 60 {
		a := asked(fmt.Sprint("rogue", n%4), n)
		a.Asker.Class = "org:rogue"
		c, err := d.Begin(t.Context(), noon, &rules, a)
		if err == nil && c.Verdict.Refusal == dossier.Answered {
			answered++
		}
	}
	if answered != 10 {
		t.Errorf("four keys of an organisation got %d answers of 10", answered)
	}
	if c, err := d.Begin(t.Context(), noon, &rules, asked("honest", 1)); err != nil || c.Verdict.Refusal != dossier.Answered {
		t.Errorf("another organisation: %q, %v", c.Verdict.Reason, err)
	}
}

// TestHostsAreCharged: what answers name is counted, once for each question, and an
// answer that would name more than the budget is refused.
func TestHostsAreCharged(t *testing.T) { both(t, hostsAreCharged) }

func hostsAreCharged(t *testing.T, address string) {
	d, _ := openAt(t, address)
	rules := alone()
	rules.PerOrganisation.Hosts, rules.PerRoster.Hosts = 10, 15
	for i, step := range []struct {
		who   string
		n     int
		hosts int
		want  dossier.Refusal
	}{
		{"a", 1, 8, dossier.Answered},
		{"a", 1, 8, dossier.Answered}, // resumed
		{"a", 2, 3, dossier.OverBudget},
		{"a", 3, 2, dossier.Answered},
		{"b", 1, 6, dossier.OverBudget}, // all together
		{"b", 2, 5, dossier.Answered},
	} {
		c, err := d.Begin(t.Context(), noon, &rules, asked(step.who, step.n))
		if err != nil || c.Verdict.Refusal != dossier.Answered {
			t.Fatalf("step %d: %q, %v", i, c.Verdict.Reason, err)
		}
		got, err := d.ChargeHosts(t.Context(), noon, &rules, &c, step.hosts)
		if err != nil || got != step.want {
			t.Errorf("step %d: %q, %v; want %q", i, got, err, step.want)
		}
		if (c.Verdict.Reason == "") != (step.want == dossier.Answered) {
			t.Errorf("step %d: reason %q", i, c.Verdict.Reason)
		}
	}
	if c, err := d.Begin(t.Context(), noon, &rules, asked("a", 4)); err != nil || c.Verdict.Refusal != dossier.OverBudget {
		t.Errorf("with all hosts named: %q, %v", c.Verdict.Refusal, err)
	}
}

// TestRecordIsTamperEvident changes the record in every way that leaves it
// readable.
func TestRecordIsTamperEvident(t *testing.T) {
	for name, change := range map[string]string{
		"an entry is changed":   `UPDATE ask_entry SET entry = (SELECT entry FROM ask_entry WHERE seq = 1) WHERE seq = 3`,
		"a hash is changed":     `UPDATE ask_entry SET hash = (SELECT hash FROM ask_entry WHERE seq = 1) WHERE seq = 3`,
		"an entry is removed":   `DELETE FROM ask_entry WHERE seq = 3`,
		"the first is removed":  `DELETE FROM ask_entry WHERE seq = 1`,
		"two change places":     `UPDATE ask_entry SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN -2 ELSE -seq END`,
		"the end is cut":        `DELETE FROM ask_entry WHERE seq > 4`,
		"all of it is replaced": `DELETE FROM ask_entry`,
	} {
		t.Run(name, func(t *testing.T) {
			d, db := open(t)
			rules := alone()
			for n := range 3 {
				c, err := d.Begin(t.Context(), noon, &rules, asked("a", n))
				if err == nil {
					err = d.Finish(t.Context(), noon, c, audit.Settlement{Answers: n})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			head, err := d.Verify(t.Context(), nil)
			if err != nil || head.Entries != 6 {
				t.Fatal(head, err)
			}
			if _, err := d.Verify(t.Context(), &head); err != nil {
				t.Fatal(err)
			}
			err = db.Update(t.Context(), func(tx *state.Tx) error {
				if _, err := tx.Exec(change); err != nil {
					return err
				}
				_, err := tx.Exec(`UPDATE ask_entry SET seq = -seq WHERE seq < 0`)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if name == "all of it is replaced" {
				if _, err := d.Begin(t.Context(), noon, &rules, asked("b", 1)); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := d.Verify(t.Context(), &head); !errors.Is(err, audit.ErrTampered) {
				t.Errorf("not noticed: %+v, %v", got, err)
			}
		})
	}
}

// TestListShowsWhatWasSeen: masks and keys, never more than a question holds.
func TestListShowsWhatWasSeen(t *testing.T) {
	d, _ := open(t)
	rules := alone()
	rules.Detectives = []string{"b"}
	if _, err := d.Begin(t.Context(), noon, &rules, asked("a", 1)); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := d.List(t.Context(), 0, func(number int64, e audit.TrailEntry) bool {
		n++
		if number != 1 || e.Event != "asked" || e.Asker != "a" || e.Refusal != "not permitted" || e.Reason == "" ||
			len(e.Clues) != 1 || e.Clues[0].Mask != "addr4/32" || e.Clues[0].Keys[0] != "5" || e.Epoch != today {
			t.Errorf("entry %d: %+v", number, e)
		}
		return true
	})
	if err != nil || n != 1 {
		t.Error(n, err)
	}
}

// TestAgainstModel runs random sequences of asking, finishing and forgetting
// beside a plain list, and compares verdicts.
func TestAgainstModel(t *testing.T) {
	d, _ := open(t)
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++ // each far from all others
		rules := alone()
		rules.PerOrganisation.Questions, rules.PerRoster.Questions, rules.EpochDays = 3, 5, 36500
		type one struct {
			who   string
			at    time.Time
			open  *audit.Admitted
			asked audit.VerifiedQuestion

			answered bool
		}
		var all []one
		now, n := noon.AddDate(0, run, 0), 1000*run
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(r, "hours")) * time.Hour)
			switch rapid.IntRange(0, 3).Draw(r, "what") {
			case 0, 1:
				who := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "who")
				own, everybody := 0, 0
				for _, o := range all {
					if o.at.Truncate(policy.BudgetSpan).After(now.Add(-rules.BudgetWithin - policy.BudgetSpan)) {
						if o.answered {
							everybody++
						}
						if o.who == who {
							own++
						}
					}
				}
				n++
				a := asked(who, n)
				a.Expires = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(r, "life")) * time.Hour)
				c, err := d.Begin(context.Background(), now, &rules, a)
				if errors.Is(err, audit.ErrFlood) != (own >= 6) {
					r.Fatalf("%d own: %v", own, err)
				}
				if own >= 6 {
					continue
				}
				if err != nil {
					r.Fatal(err)
				}
				if want := own >= 3 || everybody >= 5; want != (c.Verdict.Refusal == dossier.OverBudget) {
					r.Fatalf("%d own and %d in all: %q", own, everybody, c.Verdict.Refusal)
				}
				all = append(all, one{who, now, &c, a, c.Verdict.Refusal == dossier.Answered})
			case 2:
				if len(all) == 0 {
					continue
				}
				o := &all[rapid.IntRange(0, len(all)-1).Draw(r, "which")]
				if now.After(o.asked.Expires) {
					continue // such an envelope does not come so far
				}
				_, err := d.Begin(context.Background(), now, &rules, o.asked)
				if o.open == nil && !errors.Is(err, audit.ErrReplayed) {
					r.Fatalf("a finished case: %v", err)
				}
				if o.open != nil && err == nil {
					if err := d.Finish(context.Background(), now, *o.open, audit.Settlement{}); err != nil {
						r.Fatal(err)
					}
					o.open = nil
				}
			case 3:
				if err := d.Forget(context.Background(), now, &rules); err != nil {
					r.Fatal(err)
				}
			}
		}
	})
	if _, err := d.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
