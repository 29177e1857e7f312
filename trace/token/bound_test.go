package token

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestFloodDoesNotPushOutEarlierRecords is the attacker who logs in, does harm,
// and then causes many times more requests than the store holds.
func TestFloodDoesNotPushOutEarlierRecords(t *testing.T) {
	dir := t.TempDir()
	limits := Limits{MaxBytes: 256 << 10, MaxAge: time.Hour}
	s := openStore(t, dir, limits)
	filler := func(i int) string { // does not compress
		return fmt.Sprintf("%d %x", i, Commit(Hash{}, fmt.Append(nil, i)))
	}
	var attack, bystander []string
	for i := range 5 {
		attack = append(attack, put(t, s, "attack "+filler(i), 1000))
		bystander = append(bystander, put(t, s, "bystander "+filler(i), 1001))
	}
	if err := s.PutPrevious(attack[0], []byte("where he came from"), Account{User: 1000}); err != nil {
		t.Fatal(err)
	}
	var last string
	for i := range 8000 {
		last = put(t, s, "flood "+filler(i), 1000)
		if i%100 == 0 {
			if got := diskUse(t, dir); got > limits.MaxBytes {
				t.Fatalf("the store takes %d bytes of %d", got, limits.MaxBytes)
			}
		}
		if i == 4000 {
			bystander = append(bystander, put(t, s, "bystander during the flood", 1001))
		}
	}
	s.Close()
	for _, token := range append(append(attack, bystander...), last) {
		if e, err := Get(dir, token); err != nil || e.Problem != nil {
			t.Errorf("%s: %v %v", token, err, e.Problem)
		}
	}
	if e, _ := Get(dir, attack[0]); len(e.Previous) != 1 {
		t.Error("the answers of previous hosts were lost")
	}
	r := verified(t, dir)
	if r.Removed == 0 {
		t.Error("nothing was removed: the flood did not fill the store")
	}
	if r.Records+int(r.Removed) < 8000 {
		t.Errorf("%d records and %d removed do not add up", r.Records, r.Removed)
	}
	// The chain goes on after a restart.
	s = openStore(t, dir, limits)
	put(t, s, "later", 5)
	s.Close()
	verified(t, dir)
}

// TestFloodAroundAnAttack floods before and after an attack: the questions about
// the flood come from one host, that about the attack from another.
func TestFloodAroundAnAttack(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Limits{MaxBytes: 256 << 10, MaxAge: time.Hour})
	ask := func(i int, asker uint32) string {
		token, err := s.Put(fmt.Appendf(nil, "%d %x", i, Commit(Hash{}, fmt.Append(nil, i))), Account{1000, asker}, false)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for i := range 2000 {
		ask(i, 7)
	}
	attack := ask(-1, 9)
	for i := range 3000 {
		ask(2000+i, 7)
	}
	s.Close()
	if e, err := Get(dir, attack); err != nil || e.Problem != nil {
		t.Errorf("the record of the attack: %v %v", err, e.Problem)
	}
	if r := verified(t, dir); r.Removed == 0 {
		t.Error("nothing was removed: the floods did not fill the store")
	}
}

func diskUse(t testing.TB, dir string) (sum int64) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*"+extension))
	for _, n := range names {
		if st, err := os.Stat(n); err == nil {
			sum += st.Size()
		}
	}
	return sum
}

func TestExpire(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1e9, 0)
	s, err := openAt(dir, testKey, Limits{MaxBytes: 1 << 20, MaxAge: time.Hour}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	old := put(t, s, "old", 1)
	now = now.Add(50 * time.Minute)
	young := put(t, s, "young", 1)
	now = now.Add(20 * time.Minute)
	if err := s.Expire(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Get(dir, old); !errors.Is(err, ErrNoToken) {
		t.Errorf("expired record: %v", err)
	}
	if _, err := Get(dir, young); err != nil {
		t.Error(err)
	}
	verified(t, dir)
}

// TestVictims checks the promise of Limits on random stores.
func TestVictims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var entries []entry
		total := map[uint32]int64{}
		for i := range rapid.IntRange(0, 60).Draw(t, "entries") {
			e := entry{account: rapid.Uint32Range(0, 4).Draw(t, "account"), bytes: rapid.Int64Range(1, 50).Draw(t, "bytes"), time: int64(i)}
			e.token[0], e.token[1] = byte(i), byte(i>>8)
			entries = append(entries, e)
			total[e.account] += e.bytes
		}
		want, reserved := rapid.Int64Range(0, 2000).Draw(t, "want"), rapid.Int64Range(0, 1000).Draw(t, "reserved")
		floor := reserved / max(int64(len(total)), minAccounts)
		var freed int64
		gone := map[Hash]bool{}
		for _, e := range chooseRemovals(entries, want, reserved) {
			if freed >= want {
				t.Fatal("more was removed than needed")
			}
			freed += e.bytes
			gone[e.token] = true
		}
		used, left := map[uint32]int64{}, false
		for _, e := range entries {
			used[e.account] += e.bytes
			if used[e.account] <= floor && gone[e.token] {
				t.Fatalf("entry %d of account %d is within its reserve of %d", e.time, e.account, floor)
			}
			left = left || used[e.account] > floor && !gone[e.token]
		}
		if freed < want && left {
			t.Fatal("too little was removed although loose entries are left")
		}
	})
}
