package layout

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/store/disk"
)

// registry opens the enrolments of a data directory.
func registry(t *testing.T, d Directory) *agents.Registry {
	t.Helper()
	if err := d.Create(); err != nil {
		t.Fatal(err)
	}
	db := state.New(d.State())
	r := agents.New(agents.Dependencies{DB: db, Authority: d.Authority(), Log: slog.New(slog.DiscardHandler)})
	parts := run.Parts{db, r}
	if err := parts.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := parts.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestCopy: a copy that is taken beside a program that has the original open is
// a whole data directory: every file in it, known to this package or not, with
// the same permissions, and the same enrolments.
func TestCopy(t *testing.T) {
	ctx := t.Context()
	d, to := Directory(filepath.Join(t.TempDir(), "data")), filepath.Join(t.TempDir(), "copy")
	r := registry(t, d)
	if _, err := r.NewToken(ctx, "edge-1", "guard", time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{d.WitnessKey(), d.Roster(), d.Epochs(), d.Templates(), d.join("spool", "of", "another")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(filepath.Base(file)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := d.Copy(ctx, to, nil); err != nil {
		t.Fatal(err)
	}
	copied := Directory(to)
	for _, file := range []string{copied.WitnessKey(), copied.Roster(), copied.Epochs(), copied.Templates(), copied.join("spool", "of", "another")} {
		text, err := os.ReadFile(file)
		if err != nil || string(text) != filepath.Base(file) {
			t.Errorf("%s: %q, %v", file, text, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	if _, err := os.Lstat(copied.Socket()); err == nil {
		t.Error("the socket was copied")
	}
	other := registry(t, copied)
	if other.Authority().Pin() != r.Authority().Pin() {
		t.Error("the copy has another authority")
	}
	if err := other.Revoke(ctx, "edge-1"); err != nil {
		t.Errorf("the copy does not know the token: %v", err)
	}
	if found, err := disk.Check(ctx, to, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	if err := d.Copy(ctx, to, nil); err == nil {
		t.Error("a copy was overwritten")
	}
	if err := d.Copy(ctx, t.TempDir(), nil); err != nil {
		t.Errorf("into an empty directory: %v", err)
	}
}

func TestStateElsewhere(t *testing.T) {
	d := Directory(t.TempDir())
	if d.StateElsewhere() {
		t.Error("no node has run here")
	}
	if err := os.MkdirAll(d.Authority(), 0o700); err != nil {
		t.Fatal(err)
	}
	if !d.StateElsewhere() {
		t.Error("the authority is here and the database is not")
	}
}
