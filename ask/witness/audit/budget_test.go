package audit_test

import (
	"database/sql"
	"fmt"
	"testing"

	"dragnet/ask/witness/audit"
	"dragnet/dossier"
	"dragnet/internal/state"
)

// TestBudgetsFollowFromTheRecord: who deletes or lowers the counters resets no budget, as
// they are computed again from the record, to what they were.
func TestBudgetsFollowFromTheRecord(t *testing.T) { both(t, budgetsFollow) }

func budgetsFollow(t *testing.T, address string) {
	d, db := openAt(t, address)
	rules := alone()
	rules.PerOrganisation.Questions = 5
	for n := range 7 { // two are refused
		c, err := d.Begin(t.Context(), noon, &rules, asked("a", n))
		if err != nil {
			t.Fatal(err)
		}
		if c.Verdict.Refusal == dossier.Answered {
			if _, err := d.ChargeHosts(t.Context(), noon, &rules, &c, 10+n); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Finish(t.Context(), noon, c, audit.Settlement{Refusal: c.Verdict.Refusal, Answers: n, Bytes: int64(100 * n)}); err != nil {
			t.Fatal(err)
		}
	}
	counters := func() (out string) {
		t.Helper()
		if err := db.View(t.Context(), func(tx *state.Tx) error {
			out = ""
			return tx.Each(func(r *sql.Rows) error {
				var who string
				var n [5]int64
				err := r.Scan(&who, &n[0], &n[1], &n[2], &n[3], &n[4])
				out += fmt.Sprintln(who, n)
				return err
			}, `SELECT organisation, questions, keys, bytes, addresses, hosts FROM ask_usage ORDER BY organisation, span`)
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := counters()
	for _, change := range []string{`DELETE FROM ask_usage`, `UPDATE ask_usage SET questions = 0, hosts = 1`, `UPDATE ask_usage SET keys = keys`} {
		if err := db.Update(t.Context(), func(tx *state.Tx) error { _, err := tx.Exec(change); return err }); err != nil {
			t.Fatal(err)
		}
		var err error
		if d, err = audit.Open(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if after := counters(); after != before {
			t.Errorf("%s: the counters are\n%swere\n%s", change, after, before)
		}
	}
	if c, err := d.Begin(t.Context(), noon, &rules, asked("a", 99)); err != nil || c.Verdict.Refusal != dossier.OverBudget {
		t.Errorf("its budget was reset: %v, %v", c.Verdict, err)
	}
}
