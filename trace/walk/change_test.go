//go:build linux

package walk

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestReusedPID shows a process that is not the one that was seen.
func TestReusedPID(t *testing.T) {
	f := newFinder(t, "off")
	s := newSnapshot(1)
	s.addObject(Process{PID: int32(os.Getpid()), Parent: 7, Start: 1}, Object{Inode: 5}, readWrite)
	w := &Walked{finder: f, snapshot: s, Closure: Closure{Steps: []Step{{PID: int32(os.Getpid()), Via: Owner}}}}
	p := w.Record()[0]
	if !p.Gone || p.Name != "" || p.Parent != 7 {
		t.Errorf("a process with another start time was taken for the one seen: %+v", p)
	}
}

// TestWalkBesideAForkBomb walks while processes come and go.
func TestWalkBesideAForkBomb(t *testing.T) {
	bothWays(t, func(t *testing.T, f *Finder) {
		out, last := accept(t)
		run(t, fmt.Sprintf("while :; do (sleep 0.001 & sleep 0.001) | cat & wait; done & exec socat STDIN TCP:127.0.0.1:%d", out))
		local, remote := from(wait(t, last))
		for range 20 {
			found, err := f.Find(local, remote)
			if err != nil {
				t.Fatal(err)
			}
			w, err := f.Walk(found)
			if err != nil {
				t.Fatal(err)
			}
			if r := w.Record(); r[0].Name != "socat" || r[0].Gone {
				t.Fatalf("owner %+v", r[0])
			}
		}
	})
}

// TestSocketChangesHands passes a socket on, as fork and SCM_RIGHTS do, and
// then ends its new owner between the walk and the reading of its state.
func TestSocketChangesHands(t *testing.T) {
	bothWays(t, func(t *testing.T, f *Finder) {
		port, last := accept(t)
		c, err := net.Dial("tcp4", loopback(port))
		if err != nil {
			t.Fatal(err)
		}
		server := wait(t, last)
		local, remote := from(server)
		file, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		heir := exec.Command("sleep", "100")
		heir.ExtraFiles = []*os.File{file}
		if err := heir.Start(); err != nil {
			t.Fatal(err)
		}
		defer heir.Process.Kill()
		owners := func() (w *Walked, pids []int) {
			t.Helper()
			found, err := f.Find(local, remote)
			if err != nil {
				t.Fatal(err)
			}
			if w, err = f.Walk(found); err != nil {
				t.Fatal(err)
			}
			for _, st := range w.Steps {
				if st.Via == Owner {
					pids = append(pids, int(st.PID))
				}
			}
			return w, pids
		}
		both := []int{os.Getpid(), heir.Process.Pid}
		slices.Sort(both)
		if _, got := owners(); !slices.Equal(got, both) {
			t.Errorf("owners %v, want %v", got, both)
		}
		c.Close()
		file.Close()
		w, got := owners()
		if !slices.Equal(got, []int{heir.Process.Pid}) {
			t.Errorf("owners %v after it was passed on, want %d", got, heir.Process.Pid)
		}
		heir.Process.Kill()
		heir.Wait()
		if p := w.Record()[0]; !p.Gone || int(p.PID) != heir.Process.Pid || int(p.Parent) != os.Getpid() {
			t.Errorf("a process that ended is recorded as %+v", p)
		}
		time.Sleep(50 * time.Millisecond)
		if _, err := f.Find(local, remote); !errors.Is(err, ErrNoUser) {
			t.Errorf("the connection of a dead process: %v", err)
		}
	})
}
