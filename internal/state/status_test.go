package state_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dragnet/internal/admin"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
)

// TestStatus: a database that another program holds, and one that is gone, is said
// to have failed, and to work again when it does.
func TestStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	want := func(level admin.Level, text string) {
		t.Helper()
		if s := db.Status(t.Context()); s.Level != level || !strings.Contains(s.Text, text) {
			t.Errorf("%+v; want %s with %q", s, level, text)
		}
	}
	want(admin.OK, "")
	holder, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	held, err := holder.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	want(admin.Failed, "lock")
	if _, err := held.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	want(admin.OK, "")
	db.Close()
	want(admin.Failed, "closed")
	if err := state.New(path).CheckWritable(context.Background()); err == nil {
		t.Error("one that was never opened")
	}
}

func TestStatusOfAFullDisk(t *testing.T) {
	testkit.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	db := open(t, filepath.Join(dir, "state.db"))
	if s := db.Status(t.Context()); s.Level != admin.OK {
		t.Fatalf("an empty disk: %+v", s)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 30<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if s := db.Status(t.Context()); s.Level != admin.Failed || !strings.Contains(s.Text, "full") {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if s := db.Status(t.Context()); s.Level != admin.OK {
		t.Errorf("with room again: %+v", s)
	}
}
