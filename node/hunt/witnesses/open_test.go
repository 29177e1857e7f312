package witnesses

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	dir := t.TempDir()
	const log = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n1.0\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\n"
	path := filepath.Join(dir, "north conn.log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	sources, err := Open([]string{path, path, "east=" + path})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sources {
		names = append(names, s.Name)
	}
	if want := []string{"north-conn", "north-conn-2", "east"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	// A name that was given wins over one that we make.
	sources, err = Open([]string{path, path, "north-conn-2=" + path})
	if err != nil || sources[1].Name == sources[2].Name || sources[2].Name != "north-conn-2" {
		t.Errorf("names %v (%v)", sources, err)
	}
	for _, bad := range [][]string{{"a=" + path, "a=" + path}, {filepath.Join(dir, "missing")}, {"x=" + os.DevNull}} {
		if _, err := Open(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
