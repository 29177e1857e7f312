package outputs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/publish"
	"dragnet/publish/mirror"
	"dragnet/publish/publishtest"
)

// TestKeptFilesAreCurrent changes a list at random and compares the publications
// of a tree that keeps what did not change with ones that are written whole.
func TestKeptFilesAreCurrent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	source := publishtest.New()
	s := startService(t, everything(t), source, source.Now)
	feed := source.Feed(t)
	newTree := func(dir string) *mirror.Tree {
		c := mirror.DefaultConfiguration()
		c.Directory = dir
		tree, err := mirror.NewTree(c, s.deps.Key(), time.Hour, s.files()...)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	dir := t.TempDir()
	tree := newTree(dir)
	host := func() string { return fmt.Sprintf("198.51.100.%d", 1+random.IntN(20)) }
	patterns := []string{"in dport=445", "in dport=22", "in dport=80"}
	kept := 0
	for step := range 60 {
		group := fmt.Sprint("g", random.IntN(5))
		switch random.IntN(5) {
		case 0, 1:
			source.List(group, patterns[random.IntN(3):], random.IntN(100), host(), host())
		case 2:
			source.Withdraw(group, host(), host(), host())
		case 3:
			source.Advance(time.Duration(random.IntN(10)) * time.Hour) // entries live for a day
		case 4: // nothing happens
		}
		v := publishtest.Refresh(t, feed)
		if random.IntN(4) == 0 {
			continue // a view that is not published
		}
		before := tree.Last()
		m, err := tree.Publish(v)
		if err != nil {
			t.Fatal(err)
		}
		want, err := newTree(t.TempDir()).Publish(v)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]mirror.FileHash{}
		for _, f := range m.Files {
			if !strings.HasPrefix(f.Path, "delta/") {
				got[f.Path] = f
			}
		}
		for _, f := range want.Files {
			if got[f.Path] != f {
				t.Errorf("step %d: %s is not what is published", step, f.Path)
			}
			delete(got, f.Path)
		}
		if len(got) > 0 || t.Failed() {
			t.Fatalf("step %d: more files than are published: %v", step, got)
		}
		if before != nil {
			kept += countLinks(t, dir, m.Head.Number, v)
		}
	}
	if kept == 0 {
		t.Error("no file was ever kept")
	}
}

// countLinks counts the files of groups that a publication shares with the one
// before.
func countLinks(t *testing.T, dir string, number int64, v *publish.View) (n int) {
	t.Helper()
	for _, name := range v.GroupNames() {
		file := filepath.Join("group", name+".txt")
		now, err := os.Stat(filepath.Join(dir, mirror.Current, file))
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%012d", number-1), file))
		if err == nil && os.SameFile(now, before) {
			n++
		}
	}
	return n
}

// TestADamagedFileIsNotKept shortens a file of the last publication: the next one
// has it whole.
func TestADamagedFileIsNotKept(t *testing.T) {
	source := publishtest.New()
	source.List("g1", nil, 75, "198.51.100.7")
	c := everything(t)
	s := startService(t, c, source, source.Now)
	current := filepath.Join(c.Mirror.Directory, mirror.Current)
	for _, path := range []string{"group/g1.txt", "hosts4.txt"} {
		if err := os.Truncate(filepath.Join(current, path), 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Verify(current, s.deps.Key().Public(), source.Now(), nil); err != nil {
		t.Error(err)
	}
}
