//go:build linux

package tc

import (
	"os"
	"path/filepath"
	"testing"
)

func captures(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if ext := filepath.Ext(name); err == nil && (ext == ".pcap" || ext == ".pcapng" || ext == ".trace") {
			files = append(files, name)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in %s: %v", dir, err)
	}
	return files
}
