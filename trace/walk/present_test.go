//go:build linux

package walk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadAccounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(path, []byte("root:100000:65536\n4711:300000:10\nnobody-such:1:1000\nbroken\n1:2:3:4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	account := ReadAccounts(path)
	for uid, want := range map[uint32]uint32{0: 0, 99999: 99999, 100000: 0, 165535: 0, 165536: 165536, 300009: 4711, 300010: 300010, 500: 500} {
		if got := account(uid); got != want {
			t.Errorf("user number %d is charged to %d, want %d", uid, got, want)
		}
	}
}

func TestListProcesses(t *testing.T) {
	all, err := ListProcesses()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if int(p.PID) == os.Getpid() && int(p.Parent) == os.Getppid() && int(p.UID) == os.Getuid() && p.Start > 0 && p.Name != "" {
			return
		}
	}
	t.Errorf("%d processes, this one not among them", len(all))
}
