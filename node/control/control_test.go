package control

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"dragnet/store/disk"
)

// TestBackup: a copy, taken beside a node that has the original open, has the
// same authority and members.
func TestBackup(t *testing.T) {
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)
	dir, copied := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "copy")
	c, err := Open(ctx, dir, "", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Agents.Token(ctx, "edge-1", "guard", time.Hour); err != nil {
		t.Fatal(err)
	}
	s, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Backup(ctx, copied, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if err := Backup(ctx, dir, copied); err != nil {
		t.Fatal(err)
	}
	d, err := Open(ctx, copied, "", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Agents.Authority().Pin() != c.Agents.Authority().Pin() {
		t.Error("the copy has another authority")
	}
	if err := d.Agents.Revoke(ctx, "edge-1"); err != nil {
		t.Errorf("the copy does not know the token: %v", err)
	}
	if found, err := disk.Check(ctx, copied, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	// A directory on which no node has run has nothing to copy.
	if err := Backup(ctx, t.TempDir(), t.TempDir()); err != nil {
		t.Error(err)
	}
}
