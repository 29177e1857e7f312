package vault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
)

func open(t *testing.T, c Configuration) *Vault {
	t.Helper()
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Stop(context.Background()) })
	return v
}

func configuration(t *testing.T) Configuration {
	c := DefaultConfiguration()
	c.Directory = t.TempDir()
	return c
}

func add(t *testing.T, v *Vault, sent, answered string) bool {
	t.Helper()
	isNew, err := addFrom(v, "", sent, answered)
	if err != nil {
		t.Fatal(err)
	}
	return isNew
}

// TestEachPayloadOnce: copies are counted and kept once, over a restart too, and
// no file holds the bytes in clear.
func TestEachPayloadOnce(t *testing.T) {
	c := configuration(t)
	v := open(t, c)
	if !add(t, v, "attack one", "ok") || add(t, v, "attack one", "ok") || !add(t, v, "attack two", "ok") {
		t.Error("new and known are mixed up")
	}
	v.Stop(t.Context())
	if v = open(t, c); add(t, v, "attack one", "") {
		t.Error("known before the restart, new after it")
	}
	v.Stop(t.Context())
	var names []string
	if err := Sessions(c.Directory, func(l *Line) error { names = append(names, l.Sent); return nil }); err != nil || len(names) != 4 {
		t.Fatal(names, err)
	}
	keys, err := ReadKey(filepath.Join(c.Directory, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := ReadPayload(c.Directory, names[2], keys); err != nil || string(b) != "attack two" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadPayload(c.Directory, "../../../etc/passwd", keys); err == nil {
		t.Error("a path was taken for a name")
	}
	files := 0
	err = filepath.WalkDir(c.Directory, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || bytes.Contains(b, []byte("attack")) {
			t.Errorf("%s shows a payload, %v", path, err)
		}
		if info, _ := e.Info(); info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files != 5 { // key, one day, two attacks, one answer
		t.Errorf("%d files", files)
	}
}

// TestRecipients: with a key elsewhere nothing here opens a payload.
func TestRecipients(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c := configuration(t)
	c.Recipients = []string{key.Recipient().String()}
	v := open(t, c)
	add(t, v, "attack", "")
	v.Stop(t.Context())
	if _, err := os.Stat(filepath.Join(c.Directory, KeyFile)); err == nil {
		t.Error("a key was made beside the captures")
	}
	var name string
	Sessions(c.Directory, func(l *Line) error { name = l.Sent; return nil })
	if b, err := ReadPayload(c.Directory, name, []age.Identity{key}); err != nil || string(b) != "attack" {
		t.Errorf("%q, %v", b, err)
	}
	other, _ := age.GenerateX25519Identity()
	if _, err := ReadPayload(c.Directory, name, []age.Identity{other}); err == nil {
		t.Error("another key opens it")
	}
}

// TestDiskFull: what cannot be written is counted, and the vault goes on.
func TestDiskFull(t *testing.T) {
	c := configuration(t)
	v := open(t, c)
	add(t, v, "before", "")
	payloads := filepath.Join(c.Directory, "payloads")
	if err := os.RemoveAll(payloads); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(payloads, nil, 0o600); err != nil { // no directory can be made
		t.Fatal(err)
	}
	if _, err := addFrom(v, "", "lost", ""); err == nil || v.Totals().Failed != 1 {
		t.Errorf("%v, %+v", err, v.Totals())
	}
	if err := os.Remove(payloads); err != nil {
		t.Fatal(err)
	}
	if !add(t, v, "after", "") {
		t.Error("the vault does not go on")
	}
}

// TestClockSteps: a clock that steps back writes to an earlier day; a line that a
// crash cut is left out.
func TestClockSteps(t *testing.T) {
	c := configuration(t)
	v := open(t, c)
	for i, day := range []int{26, 27, 26, 20, 27} {
		v.now = func() time.Time { return time.Date(2026, 11, day, 1, 0, 0, 0, time.UTC) }
		add(t, v, fmt.Sprint("p", i), "")
	}
	v.Stop(t.Context())
	path := filepath.Join(c.Directory, "sessions", "2026-11-27.jsonl")
	b, _ := os.ReadFile(path)
	os.WriteFile(path, append(b, []byte(`{"id":"cut`)...), 0o600)
	n := 0
	if err := Sessions(c.Directory, func(*Line) error { n++; return nil }); err != nil || n != 5 {
		t.Errorf("%d sessions, %v", n, err)
	}
}

// TestCutLine: a line that a crash or a full disk cut does not swallow the next.
func TestCutLine(t *testing.T) {
	c := configuration(t)
	v := open(t, c)
	add(t, v, "one", "")
	v.Stop(t.Context())
	days, err := filepath.Glob(filepath.Join(c.Directory, "sessions", "*"))
	if err != nil || len(days) != 1 {
		t.Fatal(days, err)
	}
	f, err := os.OpenFile(days[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"cut","stage":"outb`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, c)
	add(t, v, "two", "")
	n := 0
	if err := Sessions(c.Directory, func(*Line) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("%d sessions of 2, %v", n, err)
	}
}
