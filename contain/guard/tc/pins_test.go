//go:build linux

package tc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dragnet/daw"
	"dragnet/internal/testkit"
)

// pins is a folder in a BPF file system of the test's own.
func pins(t *testing.T) string {
	t.Helper()
	testkit.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// A second guard is told that the tables are used, and harms the first in nothing.
func TestSecondGuardIsRefused(t *testing.T) {
	o := Options{Pins: pins(t) + "/guard", Stay: true}
	edge, err := daw.New(small(), customer, monday)
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := Load(o, edge)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(o, edge); err == nil || !strings.Contains(err.Error(), "another guard") {
		t.Errorf("the second guard starts: %v", err)
	}
	if err := first.Tick(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	next, resumed, err := Load(o, edge)
	if err != nil || !resumed {
		t.Fatalf("resumed %v: %v", resumed, err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

// Who names a folder that others use, too, loses none of their pins.
func TestRemoveLeavesOthersPins(t *testing.T) {
	dir := pins(t)
	edge, err := daw.New(small(), customer, monday)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := Load(Options{Pins: dir, Stay: true}, edge)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.objects.Counters.Pin(filepath.Join(dir, "somebody_elses")); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"somebody_elses": true, "records": false, "settings": false} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
