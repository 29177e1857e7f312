package audit_test

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"dragnet/ask/witness/audit"
	"dragnet/internal/state"
	"dragnet/wire/treehead"
)

func ask(t *testing.T, d *audit.Trail, from, to int) {
	t.Helper()
	rules := alone()
	for n := from; n < to; n++ {
		c, err := d.Begin(t.Context(), noon, &rules, asked("a", n))
		if err == nil {
			err = d.Finish(t.Context(), noon, c, audit.Settlement{Answers: n})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRewritingShows: a record whose chain was computed again from its beginning, with an
// entry changed or left out, is whole in itself; it does not continue the heads that
// others have seen. An honest one does, at each size.
func TestRewritingShows(t *testing.T) { both(t, rewriting) }

func rewriting(t *testing.T, address string) {
	d, db := openAt(t, address)
	var heads []treehead.TreeHead
	for n := range 9 {
		ask(t, d, n, n+1)
		size, root, err := d.Root(t.Context())
		if err != nil || size != int64(2*n+2) {
			t.Fatal(size, err)
		}
		heads = append(heads, treehead.TreeHead{Size: size, Root: root})
		for _, before := range heads {
			proof, err := d.Prove(t.Context(), before.Size, size)
			if err != nil {
				t.Fatal(err)
			}
			if before.Size < size && tlog.CheckTree(proof, size, root, before.Size, before.Root) != nil {
				t.Errorf("the record of %d entries does not continue that of %d", size, before.Size)
			}
		}
	}
	if err := d.VerifyHeads(t.Context(), heads); err != nil {
		t.Errorf("an honest record: %v", err)
	}
	for name, again := range map[string]func(){
		"one is left out": func() { ask(t, d, 0, 3); ask(t, d, 4, 12) }, "one is another": func() { ask(t, d, 100, 101); ask(t, d, 1, 12) }, "the end is cut": func() { ask(t, d, 0, 8) },
	} {
		if err := db.Update(t.Context(), func(tx *state.Tx) error {
			for _, table := range []string{"ask_entry", "ask_tree", "ask_case", "ask_usage"} {
				if _, err := tx.Exec(`DELETE FROM ` + table); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		again()
		if _, err := d.Verify(t.Context(), nil); err != nil {
			t.Errorf("%s: the chain itself: %v", name, err)
		}
		if err := d.VerifyHeads(t.Context(), heads); !errors.Is(err, audit.ErrTampered) {
			t.Errorf("%s: not noticed: %v", name, err)
		}
	}
}

// TestTreeOfAnOlderRecord: a record that was started without a tree gets one.
func TestTreeOfAnOlderRecord(t *testing.T) {
	d, db := open(t)
	ask(t, d, 0, 5)
	size, root, err := d.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx *state.Tx) error { _, err := tx.Exec(`DELETE FROM ask_tree`); return err }); err != nil {
		t.Fatal(err)
	}
	if d, err = audit.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if n, again, err := d.Root(t.Context()); err != nil || n != size || again != root {
		t.Errorf("%d entries, another root: %v", n, err)
	}
	ask(t, d, 5, 7)
	if err := d.VerifyHeads(t.Context(), []treehead.TreeHead{{Size: size, Root: root}}); err != nil {
		t.Error(err)
	}
}
