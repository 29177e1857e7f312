//go:build linux

package recording

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// recorder is a recording without an interface, whose clock the test sets.
func recorder(t *testing.T, c Configuration) (r *Recording, keys []age.Identity, now *time.Time) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "packets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err = New(c, Dependencies{
		Directory: dir, Link: "none", Recipients: func() []age.Recipient { return []age.Recipient{key.Recipient()} }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_900_000_000, 0)
	return r, []age.Identity{key}, &at
}

func (r *Recording) give(t *testing.T, now time.Time, data string) {
	t.Helper()
	if r.file != nil && r.file.isOver(&r.c, now) {
		if err := r.endFile(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.add(now, &capture.Record{Time: flow.FromTime(now), Link: packet.LinkEthernet, Data: []byte(data), Wire: len(data)}); err != nil {
		t.Fatal(err)
	}
}

// TestBounds: the oldest files go when there is no room or they are too old, also
// after the clock was set back.
func TestBounds(t *testing.T) {
	c := DefaultConfiguration()
	c.FileBytes, c.FileTime, c.Bytes, c.KeepDays = 1<<16, time.Minute, 1<<18, 1
	r, keys, now := recorder(t, c)
	for n := range 1000 {
		*now = now.Add(time.Millisecond)
		if n == 500 {
			*now = now.Add(-time.Hour)
		}
		r.give(t, *now, fmt.Sprintf("%04d%01000d", n, 0))
	}
	if err := r.endFile(); err != nil {
		t.Fatal(err)
	}
	seen, total := 0, int64(0)
	cut, err := Each(r.dir, keys, func(*capture.Record) error { seen++; return nil })
	if err != nil || len(cut) > 0 {
		t.Fatal(cut, err)
	}
	names, err := listFiles(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(r.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if seen < 120 || seen > 256 || total > c.Bytes || r.Totals().Removed == 0 || r.Totals().Kept != 1000 {
		t.Errorf("%d packets in %d files of %d bytes; %+v", seen, len(names), total, r.Totals())
	}
	*now = now.Add(49 * time.Hour)
	r.give(t, *now, "late")
	if names, err := listFiles(r.dir); err != nil || len(names) != 1 {
		t.Errorf("old files stay: %v, %v", names, err)
	}
}

// TestCutFile: of a file that a crash cut, what was written out is read, and it is
// named.
func TestCutFile(t *testing.T) {
	r, keys, now := recorder(t, DefaultConfiguration())
	for range 300 {
		r.give(t, *now, fmt.Sprintf("%01000d", 0))
	}
	if err := r.file.f.Close(); err != nil { // the last piece was not written
		t.Fatal(err)
	}
	seen := 0
	cut, err := Each(r.dir, keys, func(*capture.Record) error { seen++; return nil })
	if err != nil || len(cut) != 1 || seen < 200 || seen >= 300 {
		t.Errorf("%d packets read, %v, %v", seen, cut, err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if cut, err := Each(r.dir, []age.Identity{other}, func(*capture.Record) error { return nil }); err != nil || len(cut) != 1 {
		t.Errorf("with another key: %v, %v", cut, err)
	}
}

// TestDiskProblem: packets that cannot be written are counted, and the recording
// goes on when they can.
func TestDiskProblem(t *testing.T) {
	r, _, now := recorder(t, DefaultConfiguration())
	dir := r.dir
	r.dir = filepath.Join(dir, "gone")
	rec := &capture.Record{Link: packet.LinkEthernet, Data: []byte("x"), Wire: 1}
	if err := r.add(*now, rec); err == nil {
		t.Fatal("written to a folder that is not there")
	} else {
		r.fail(*now, err)
	}
	if err := r.add(now.Add(time.Second), rec); err != nil || r.file != nil || r.Totals().Lost != 2 {
		t.Errorf("tried again at once: %v, %+v", err, r.Totals())
	}
	r.dir = dir
	if err := r.add(now.Add(retry), rec); err != nil || r.Totals().Kept != 1 {
		t.Errorf("not tried again: %v, %+v", err, r.Totals())
	}
}
