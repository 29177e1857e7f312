package clearinghouse_test

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"dragnet/clearinghouse"
	"dragnet/wire/treehead"
)

// tree is a record in memory.
type tree struct {
	hashes []tlog.Hash
	n      int64
}

func (t *tree) ReadHashes(numbers []int64) (out []tlog.Hash, err error) {
	for _, n := range numbers {
		out = append(out, t.hashes[n])
	}
	return out, nil
}

func grow(t *testing.T, entries ...string) *tree {
	t.Helper()
	r := &tree{}
	for _, e := range entries {
		more, err := tlog.StoredHashes(r.n, []byte(e), r)
		if err != nil {
			t.Fatal(err)
		}
		r.hashes, r.n = append(r.hashes, more...), r.n+1
	}
	return r
}

// TestHeadsContinue: a member's record that grows is seen at each size; one that was cut,
// forked or rewritten is not, also after a restart, nor is one that another signed.
func TestHeadsContinue(t *testing.T) { onBoth(t, headsContinue) }

func headsContinue(t *testing.T, address string) {
	c := newCommunity(t, address, nil)
	own := c.members["a"]
	var entries []string
	for i := range 20 {
		entries = append(entries, fmt.Sprint("entry ", i))
	}
	honest := grow(t, entries...)
	forked := append([]string{}, entries...)
	forked[3] = "changed"
	changed := grow(t, forked...)
	show := func(r *tree, from, size int64) (int64, bool, error) {
		t.Helper()
		root, err := tlog.TreeHash(size, r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := treehead.Sign(own, size, root)
		if err != nil {
			t.Fatal(err)
		}
		var proof tlog.TreeProof
		if from > 0 && from < size {
			if proof, err = tlog.ProveTree(size, from, r); err != nil {
				t.Fatal(err)
			}
		}
		last, _, fresh, err := c.core.SeeHead(t.Context(), own.Public(), text, from, proof)
		return last, fresh, err
	}
	seen := int64(0)
	for _, size := range []int64{1, 2, 7, 8, 8, 13} {
		if _, fresh, err := show(honest, seen, size); !fresh || err != nil {
			t.Fatalf("%d entries after %d: %v", size, seen, err)
		}
		seen = size
	}
	c.open(address, nil)
	if last, fresh, err := show(honest, 8, 20); fresh || err != nil || last != 13 {
		t.Errorf("a proof from an older head: %d, %t, %v", last, fresh, err)
	}
	for name, x := range map[string]struct {
		r          *tree
		from, size int64
	}{
		"rewritten": {changed, 13, 20}, "rewritten, of the same size": {changed, 13, 13}, "cut": {honest, 13, 12}, "cut, and from nothing": {honest, 0, 5}, "rewritten and cut": {changed, 0, 4},
	} {
		if _, fresh, err := show(x.r, x.from, x.size); fresh || !errors.Is(err, clearinghouse.ErrRewritten) {
			t.Errorf("%s: %t, %v", name, fresh, err)
		}
	}
	if _, fresh, err := show(honest, 13, 20); !fresh || err != nil {
		t.Errorf("the honest one after that: %v", err)
	}
	theirs, err := treehead.Sign(c.members["b"], 30, tlog.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := c.core.SeeHead(t.Context(), own.Public(), theirs, 20, nil); !errors.Is(err, treehead.ErrHead) {
		t.Errorf("another's head: %v", err)
	}
	if last, text, _, err := c.core.SeeHead(t.Context(), own.Public(), "", 0, nil); err != nil || last != 20 || text == "" {
		t.Errorf("asked for the last: %d, %v", last, err)
	}
}
