package state_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/state"
	"dragnet/internal/testkit"
)

var first = fstest.MapFS{"0001-account.sql": {Data: []byte(`
	CREATE TABLE test_account (id ROWKEY, name TEXT NOT NULL UNIQUE, balance BIGINT NOT NULL, seal BYTES);
	CREATE INDEX test_account_balance ON test_account (balance);
`)}}

func onBoth(t *testing.T, f func(t *testing.T, address string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "new", "state.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, testkit.Postgres(t)) })
}

func open(t *testing.T, address string) *state.DB {
	t.Helper()
	db, err := state.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestMigrateAndTransact(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		ctx := t.Context()
		db := open(t, address)
		for range 2 { // the second time nothing is to do
			if err := db.Migrate(ctx, "test", first); err != nil {
				t.Fatal(err)
			}
		}
		add := func(name string) error {
			return db.Update(ctx, func(tx *state.Tx) error {
				_, err := tx.Exec(`INSERT INTO test_account (name, balance, seal) VALUES (?, ?, ?)`, name, 100, []byte{0, 1, 0xff})
				return err
			})
		}
		if err := add("what?"); err != nil {
			t.Fatal(err)
		}
		if err := add("what?"); err == nil {
			t.Fatal("a second row with a unique name was accepted")
		}
		failed := errors.New("failed")
		if err := db.Update(ctx, func(tx *state.Tx) error {
			if _, err := tx.Exec(`DELETE FROM test_account`); err != nil {
				return err
			}
			return failed
		}); !errors.Is(err, failed) {
			t.Fatal(err)
		}
		var got []string
		if err := db.View(ctx, func(tx *state.Tx) error {
			return tx.Each(func(r *sql.Rows) error {
				var name string
				var id, balance int64
				var seal []byte
				err := r.Scan(&id, &name, &balance, &seal)
				got = append(got, fmt.Sprint(id, name, balance, seal))
				return err
			}, `SELECT id, name, balance, seal FROM test_account WHERE name = 'what?' AND balance > ?`, 99)
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1what?100 [0 1 255]"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestMigrateRefuses: a changed step, and tables of a newer build.
func TestMigrateRefuses(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		ctx := t.Context()
		db := open(t, address)
		newer := fstest.MapFS{"0001-account.sql": first["0001-account.sql"], "0002-more.sql": {Data: []byte(`CREATE TABLE test_more (a BIGINT)`)}}
		broken := fstest.MapFS{"0001-account.sql": first["0001-account.sql"], "0002-more.sql": {Data: []byte(`CREATE TABLE test_half (a BIGINT); CREATE TABEL x`)}}
		changed := fstest.MapFS{"0001-account.sql": {Data: []byte(`CREATE TABLE test_account (a BIGINT)`)}}
		if err := db.Migrate(ctx, "test", broken); err == nil || !strings.Contains(err.Error(), "0002-more.sql") {
			t.Fatalf("broken step: %v", err)
		}
		if err := db.Migrate(ctx, "test", newer); err != nil {
			t.Fatalf("after a broken step nothing may be left: %v", err)
		}
		if err := db.Migrate(ctx, "test", first); !errors.Is(err, state.ErrNewer) {
			t.Errorf("an older build got %v", err)
		}
		if err := db.Migrate(ctx, "test", changed); err == nil || !strings.Contains(err.Error(), "differs from the one that was applied") {
			t.Errorf("a changed step got %v", err)
		}
		if err := db.Migrate(ctx, "other", fstest.MapFS{"0001-x.sql": {Data: []byte(`CREATE TABLE other_x (a BIGINT)`)}}); err != nil {
			t.Errorf("another room: %v", err)
		}
	})
}

// TestConcurrent moves money about from many goroutines over two handles, as
// two programs would, while both migrate: none is lost or made.
func TestConcurrent(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		ctx := t.Context()
		handles := []*state.DB{open(t, address), open(t, address)}
		var wg sync.WaitGroup
		for _, db := range handles {
			wg.Go(func() {
				if err := db.Migrate(ctx, "test", first); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := handles[0].Update(ctx, func(tx *state.Tx) error {
			_, err := tx.Exec(`INSERT INTO test_account (name, balance) VALUES ('a', 0), ('b', 0)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			wg.Go(func() {
				for range 10 {
					if err := transfer(ctx, handles[i%2]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var a, b int64
		if err := handles[1].View(ctx, func(tx *state.Tx) error {
			return tx.QueryRow(`SELECT (SELECT balance FROM test_account WHERE name = 'a'), (SELECT balance FROM test_account WHERE name = 'b')`).Scan(&a, &b)
		}); err != nil || a != -80 || b != 80 {
			t.Errorf("a %d, b %d, %v; want -80 and 80", a, b, err)
		}
	})
}

func transfer(ctx context.Context, db *state.DB) error {
	return db.Update(ctx, func(tx *state.Tx) error {
		var a int64
		if err := tx.QueryRow(`SELECT balance FROM test_account WHERE name = 'a'`).Scan(&a); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE test_account SET balance = ? WHERE name = 'a'`, a-1); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE test_account SET balance = balance + 1 WHERE name = 'b'`)
		return err
	})
}

func TestOpenSays(t *testing.T) {
	_, err := state.Open(t.Context(), "postgres://dragnet:secret@127.0.0.1:1/x?connect_timeout=1")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no server: %v", err)
	}
}
