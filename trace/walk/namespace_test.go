//go:build linux

package walk

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/trace/diag"

	"golang.org/x/sys/unix"
)

// TestSocketOfAnotherNamespace has two processes that share a pair of sockets
// made before each went into a separate network namespace.
func TestSocketOfAnotherNamespace(t *testing.T) {
	testkit.Tool(t, "unshare")
	bothWays(t, func(t *testing.T, f *Finder) {
		out, last := accept(t)
		c, err := net.Dial("tcp4", loopback(out))
		if err != nil {
			t.Fatal(err)
		}
		connection, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		near, far := os.NewFile(uintptr(pair[0]), "near"), os.NewFile(uintptr(pair[1]), "far")
		owner := unshared(t, near, connection)
		other := unshared(t, far)
		for _, file := range []*os.File{near, far, connection} {
			file.Close()
		}
		found, err := f.Find(from(wait(t, last)))
		if err != nil {
			t.Fatal(err)
		}
		w, err := f.Walk(found)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Has(owner) || !w.Has(other) {
			t.Errorf("process %d holds the connection and shares a pair with %d; the walk found %+v", owner, other, w.Steps)
		}
	})
}

// unshared starts a process in a separate user and network namespace.
func unshared(t *testing.T, files ...*os.File) int32 {
	t.Helper()
	cmd := exec.Command("unshare", "-Un", "sh", "-c", "echo; exec sleep 60")
	cmd.ExtraFiles = files
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	out.Read(make([]byte, 1))
	return int32(cmd.Process.Pid)
}

// TestForeignNamespaces distinguishes the network namespaces of users from those
// that root made.
func TestForeignNamespaces(t *testing.T) {
	testkit.Tool(t, "nc")
	bothWays(t, func(t *testing.T, f *Finder) {
		namespaceOf := func(command string) uint32 {
			cmd := run(t, command)
			var id uint32
			waitUntil(t, func() bool {
				var err error
				id, err = diag.NamespaceOf(fmt.Sprintf("/proc/%d", cmd.Process.Pid))
				return err == nil && id != f.namespaces.Own()
			})
			return id
		}
		port := freePort(t)
		user := namespaceOf(fmt.Sprintf("exec unshare -Urn nc -l %d", port))
		root := namespaceOf(fmt.Sprintf("exec unshare -n nc -l %d", port))
		waitUntil(t, func() bool {
			s, err := f.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			listening := map[uint32]bool{}
			for _, k := range s.sockets {
				listening[k.NetNS] = listening[k.NetNS] || k.Local.Port() == uint16(port)
			}
			if listening[user] && listening[root] && (!s.foreign[user] || s.foreign[root]) {
				t.Fatalf("foreign: %v; want %d alone of it and %d", s.foreign, user, root)
			}
			return listening[user] && listening[root]
		})
	})
}

// TestPipesAreBounded gives one process more pipes than are kept, and a socket
// after them.
func TestPipesAreBounded(t *testing.T) {
	s := newSnapshot(16)
	p := Process{PID: 5, Parent: 1}
	for i := range 3 * maxPipes {
		s.addObject(p, Object{Dev: 1, Inode: uint64(i + 1), Pipe: true}, 3)
	}
	socket := Object{Dev: 2, Inode: 1}
	s.addObject(p, socket, 3)
	if len(s.descriptors) != maxPipes+1 || s.bounded[5] != 2*maxPipes || !slices.Equal(s.Holders(socket), []int32{5}) {
		t.Errorf("%d descriptors kept, %d left out, the socket is held by %v", len(s.descriptors), s.bounded[5], s.Holders(socket))
	}
}

// waitUntil waits for something another process does.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen within 5 s")
}
