package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCheckFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, good := range map[string]bool{dir: true, filepath.Join(dir, "a", "b"): true, file: false, filepath.Join(file, "a"): false} {
		if c := CheckFolder("state", path); (c.Err == nil) != good {
			t.Errorf("%s: %v, want good: %v", path, c.Err, good)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
		t.Error("the check made a folder")
	}
}
