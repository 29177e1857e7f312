//go:build linux

package kernel

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// recordAndListen starts to record events, and listens for a connection.
func recordAndListen(t *testing.T, arguments bool) (*EventReader, net.Listener) {
	testkit.Root(t)
	r, err := LoadEvents(arguments)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return r, l
}

// TestRecorderSeesRealPrograms runs a shell that runs a program that connects,
// and looks for each as an event.
func TestRecorderSeesRealPrograms(t *testing.T) {
	testkit.Tool(t, "nc")
	r, l := recordAndListen(t, true)
	port := l.Addr().(*net.TCPAddr).Port
	cmd := exec.Command("sh", "-c", fmt.Sprintf("nc -N 127.0.0.1 %d < /dev/null; true", port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Read(make([]byte, 1)) // its end
	c.Close()
	cmd.Wait()
	var client, shell ProcessID
	seen := map[string]bool{}
	for range 100 {
		if err := r.Drain(func(e Event) {
			switch {
			case e.Kind == Executed && int(e.ID.PID) == cmd.Process.Pid:
				shell = e.ID
			case e.Kind == Executed && e.Name == "nc" && e.Parent == shell:
				client = e.ID
				seen["arguments "+strings.Join(e.Arguments, " ")] = true
			case e.Kind == Exited && e.ID == client:
				seen["exit"] = true
			case e.Kind == Opened && int(e.Remote.Port()) == port:
				seen[fmt.Sprintf("opened %v by the client %v", e.Direction, e.Opener == client)] = true
			case e.Kind == Closed && int(e.Remote.Port()) == port:
				seen[fmt.Sprintf("closed %v by the client %v", e.Direction, e.ID == client)] = true
			case e.Kind == Closed && int(e.Local.Port()) == port:
				seen[fmt.Sprintf("closed %v by the server %v", e.Direction, int(e.ID.PID) == os.Getpid() && e.Opener.PID == 0)] = true
			}
		}); err != nil {
			t.Fatal(err)
		}
		if len(seen) == 5 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range []string{fmt.Sprintf("arguments nc -N 127.0.0.1 %d", port), "exit", "opened outbound by the client true",
		"closed outbound by the client true", "closed inbound by the server true"} {
		if !seen[want] {
			t.Errorf("not seen: %s; seen: %v", want, seen)
		}
	}
}

// TestAResetConnectionKeepsItsPorts: both ends' records of its end have them, however it
// ended. The kernel gives a socket's port back before it says that it is closed.
func TestAResetConnectionKeepsItsPorts(t *testing.T) {
	r, l := recordAndListen(t, false)
	// In a new process: those that run already are not followed.
	cmd := exec.Command("python3", "-c", fmt.Sprintf(`import socket, struct
s = socket.create_connection(("127.0.0.1", %d))
s.recv(1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()`, l.Addr().(*net.TCPAddr).Port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	remote := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	c.Write([]byte{1})
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	local := l.Addr().(*net.TCPAddr).AddrPort()
	ends := map[string]bool{}
	for range 100 {
		if err := r.Drain(func(e Event) {
			if e.Kind == Closed && (e.Remote.Port() == local.Port() || e.Remote.Port() == remote.Port()) {
				ends[fmt.Sprintf("%v of %v and %v", e.Direction, e.Local, e.Remote)] = true
			}
		}); err != nil {
			t.Fatal(err)
		}
		if len(ends) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range []string{fmt.Sprintf("%v of %v and %v", Outbound, remote, local), fmt.Sprintf("%v of %v and %v", Inbound, local, remote)} {
		if !ends[want] {
			t.Errorf("not seen: closed %s; seen: %v", want, ends)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	for kind := range 6 {
		b := make([]byte, processSize)
		b[8] = byte(kind)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parseEvent(b); err == nil && len(e.Arguments) > maxArguments {
			t.Fatalf("%d arguments of %d octets", len(e.Arguments), len(b))
		}
	})
}
