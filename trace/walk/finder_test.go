//go:build linux

package walk

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/trace/kernel"
	"dragnet/trace/record"

	"github.com/google/go-cmp/cmp"
)

func newFinder(t testing.TB, ebpf string) *Finder {
	t.Helper()
	c := DefaultConfiguration()
	c.EBPF = ebpf
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// bothWays runs a test with eBPF and with /proc.
func bothWays(t *testing.T, test func(t *testing.T, f *Finder)) {
	testkit.Root(t)
	for _, ebpf := range []string{"require", "off"} {
		t.Run("ebpf="+ebpf, func(t *testing.T) { test(t, newFinder(t, ebpf)) })
	}
}

// run starts a shell command that ends with the test.
func run(t testing.TB, command string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe() // programs that read their input must not see its end
	if err == nil {
		cmd.WaitDelay = time.Second
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		for _, pid := range descendants(cmd.Process.Pid) {
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill()
			}
		}
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", command, out.String())
		}
	})
	return cmd
}

func descendants(pid int) []int {
	all := []int{pid}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			all = append(all, descendants(child)...)
		}
	}
	return all
}

// accept listens on loopback and returns the port and the first connection.
func accept(t testing.TB) (port int, conn <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			c <- conn
		}
		l.Close()
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port, c
}

// freePort is a port on which nothing listens, for a program that takes a number.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// dial connects, waiting for a program to listen, and closes with the test.
func dial(t testing.TB, network, address string) net.Conn {
	t.Helper()
	for range 200 {
		if c, err := net.Dial(network, address); err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("nothing listens at %s", address)
	return nil
}

func wait(t testing.TB, c <-chan net.Conn) net.Conn {
	t.Helper()
	select {
	case conn := <-c:
		t.Cleanup(func() { conn.Close() })
		return conn
	case <-time.After(5 * time.Second):
		t.Fatal("the chain never connected")
		return nil
	}
}

// from is the connection as the machine that began it sees it.
func from(c net.Conn) (local, remote netip.AddrPort) {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// TestWalkFollowsRealPrograms builds the ways through one host and looks for
// the program that has the inbound end, starting from the outbound one.
func TestWalkFollowsRealPrograms(t *testing.T) {
	testkit.Tool(t, "nc")
	testkit.Tool(t, "socat")
	bothWays(t, func(t *testing.T, f *Finder) {
		dir := t.TempDir()
		middle := freePort(t)
		for _, c := range []struct{ name, command, enter string }{
			// The paper's own example.
			{"netcat pipe", "nc -l 127.0.0.1 IN | nc 127.0.0.1 OUT", "nc -l"},
			{"named pipe", "mkfifo " + dir + "/fifo; nc -l 127.0.0.1 IN > " + dir + "/fifo & nc 127.0.0.1 OUT < " + dir + "/fifo", "nc -l"},
			{"shell with pipes", "nc -l 127.0.0.1 IN | cat | sh -c 'cat | nc 127.0.0.1 OUT'", "nc -l"},
			{"one process", "socat TCP-LISTEN:IN,bind=127.0.0.1,reuseaddr TCP:127.0.0.1:OUT", "socat TCP-LISTEN"},
			{"unix proxy", "socat TCP-LISTEN:IN,bind=127.0.0.1,reuseaddr UNIX-CONNECT:" + dir + "/s,retry=40,interval=0.05 & socat UNIX-LISTEN:" + dir + "/s TCP:127.0.0.1:OUT", "UNIX-CONNECT"},
			{"loopback tcp", fmt.Sprintf("socat TCP-LISTEN:IN,bind=127.0.0.1,reuseaddr TCP:127.0.0.1:%d,retry=20,interval=0.05 & socat TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr TCP:127.0.0.1:OUT", middle, middle), "retry"},
		} {
			t.Run(c.name, func(t *testing.T) {
				out, last := accept(t)
				in := freePort(t)
				run(t, strings.NewReplacer("IN", strconv.Itoa(in), "OUT", strconv.Itoa(out)).Replace(c.command))
				first := dial(t, "tcp4", loopback(in))
				first.Write([]byte("x\n"))
				local, remote := from(wait(t, last))
				found, err := f.Find(local, remote)
				if err != nil {
					t.Fatal(err)
				}
				w, err := f.Walk(found)
				if err != nil {
					t.Fatal(err)
				}
				var lines []string
				for _, st := range w.Steps {
					b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.PID))
					line := strings.ReplaceAll(string(b), "\x00", " ")
					if strings.Contains(line, c.enter) && !strings.HasPrefix(line, "sh -c") && !strings.HasPrefix(line, "sh ") {
						return
					}
					lines = append(lines, fmt.Sprintf("%d %s from %d: %s", st.PID, st.Via, st.From, line))
				}
				t.Errorf("%q is not among\n%s", c.enter, strings.Join(lines, "\n"))
			})
		}
	})
}

func TestHubsAreNotCrossed(t *testing.T) {
	bothWays(t, func(t *testing.T, f *Finder) {
		path := filepath.Join(t.TempDir(), "hub")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var server net.Conn
		out, last := accept(t)
		run(t, fmt.Sprintf("exec socat UNIX-CONNECT:%s TCP:127.0.0.1:%d", path, out))
		if server, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		found, err := f.Find(from(wait(t, last)))
		if err != nil {
			t.Fatal(err)
		}
		for _, hub := range []bool{false, true} {
			f.config.Hubs = nil
			if hub {
				f.config.Hubs = []string{filepath.Dir(path) + "/*"}
			}
			w, err := f.Walk(found)
			if err != nil {
				t.Fatal(err)
			}
			// Our process is in the walk anyhow, as the parent.
			if got := crossesTo(w, int32(os.Getpid())); got == hub {
				t.Errorf("hub %v: crossed %v", hub, got)
			}
			said := slices.ContainsFunc(w.End().Unseen, func(u record.Unseen) bool { return u.What == record.HubMet && u.Detail == path })
			if said != hub {
				t.Errorf("hub %v: the end says so: %v", hub, said)
			}
		}
	})
}

// TestHubsByNameOnly has a relay of an ordinary user, whose UNIX socket has the
// name of a hub, in the folder where his session's bus would be.
func TestHubsByNameOnly(t *testing.T) {
	testkit.Tool(t, "socat")
	testkit.Tool(t, "setpriv")
	bothWays(t, func(t *testing.T, f *Finder) {
		dir := t.TempDir()
		for at := dir; at != "/tmp" && at != "/"; at = filepath.Dir(at) {
			os.Chmod(at, 0o777)
		}
		bus := filepath.Join(dir, "bus")
		f.config.Hubs = []string{filepath.Dir(dir) + "/*/bus"}
		in := freePort(t)
		out, last := accept(t)
		run(t, strings.NewReplacer("BUS", bus, "IN", strconv.Itoa(in), "OUT", strconv.Itoa(out), "AS", "setpriv --reuid 61234 --regid 61234 --clear-groups").Replace(
			"AS socat UNIX-LISTEN:BUS TCP:127.0.0.1:OUT & AS socat TCP-LISTEN:IN,bind=127.0.0.1,reuseaddr UNIX-CONNECT:BUS,retry=40,interval=0.05"))
		dial(t, "tcp4", loopback(in)).Write([]byte("x"))
		found, err := f.Find(from(wait(t, last)))
		if err != nil {
			t.Fatal(err)
		}
		w, err := f.Walk(found)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(w.Steps, func(st Step) bool { return st.Via == UnixWith }) {
			t.Errorf("the relay was taken for a hub: %+v, %+v", w.Steps, w.met)
		}
	})
}

func TestPatternsOfHubs(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"/run/user/*/bus", "/run/user/1003/bus", true}, {"/run/user/*/bus", "/run/user/1003/x/bus", false},
		{"/run/systemd/*", "/run/systemd/journal/stdout", true}, {"/dev/log", "/dev/log", true}, {"/dev/log", "/dev/log2", false},
		{"/a/*/b*", "/a/x/bc/d", true}, {"/a/*/b", "/a//b", true},
	} {
		if got := matchesPattern(c.pattern, c.name); got != c.want {
			t.Errorf("%s, %s: %v", c.pattern, c.name, got)
		}
	}
}

// crossesTo reports whether a UNIX socket of the owner leads to a process.
func crossesTo(w *Walked, pid int32) bool {
	for _, d := range w.snapshot.objectsOf(w.Steps[0].PID) {
		if _, tcp := w.snapshot.sockets[d.object.Inode]; tcp || d.object.Pipe {
			continue
		}
		peer, ok := (&systemSources{f: w.finder, s: w.snapshot}).unixPeer(w.Steps[0].PID, d.object.Inode)
		if ok && slices.Contains(w.snapshot.Holders(Object{Dev: d.object.Dev, Inode: peer}), pid) {
			return true
		}
	}
	return false
}

// TestSnapshotsAgree takes both snapshots of processes that hold still.
func TestSnapshotsAgree(t *testing.T) {
	testkit.Root(t)
	testkit.Tool(t, "socat")
	in := freePort(t)
	out, last := accept(t)
	cmd := run(t, fmt.Sprintf("socat TCP6-LISTEN:%d,ipv6only=0,reuseaddr STDOUT | cat | socat STDIN TCP:127.0.0.1:%d & nc -lU %s/u & sleep 100 | sleep 100", in, out, t.TempDir()))
	dial(t, "tcp4", loopback(in)).Write([]byte("x"))
	wait(t, last)
	var seen [2]map[int32][]string
	for i, ebpf := range []string{"require", "off"} {
		s, err := newFinder(t, ebpf).Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		seen[i] = map[int32][]string{}
		for _, pid := range descendants(cmd.Process.Pid) {
			pid := int32(pid)
			lines := []string{fmt.Sprintf("%+v", s.processes[pid])}
			for _, d := range s.objectsOf(pid) {
				lines = append(lines, fmt.Sprintf("%+v", d.object))
				if k, ok := s.sockets[d.object.Inode]; ok && !d.object.Pipe {
					k.Direction = kernel.Unknown // only the kernel's record has one
					lines = append(lines, fmt.Sprintf("%+v", k))
				}
			}
			seen[i][pid] = lines
		}
	}
	if len(seen[0]) < 6 {
		t.Fatalf("only %d processes", len(seen[0]))
	}
	if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
		t.Errorf("eBPF (-) and /proc (+) differ:\n%s", diff)
	}
}

// began is what a Finder can know about the side that began a connection whose
// listener is gone, both ports being ephemeral.
func began(f *Finder) kernel.Direction {
	if f.kernel == nil {
		return kernel.Unknown
	}
	return kernel.Outbound
}

func TestFindMisses(t *testing.T) {
	bothWays(t, func(t *testing.T, f *Finder) {
		port, last := accept(t)
		c := dial(t, "tcp4", loopback(port))
		server := wait(t, last)
		local, remote := from(server)
		found, err := f.Find(local, remote)
		if err != nil || found.Direction != began(f) {
			t.Errorf("client: %+v, %v", found, err)
		}
		if found, err = f.Find(remote, local); err != nil || found.UID != uint32(os.Getuid()) {
			t.Errorf("server: %+v, %v", found, err)
		}
		if _, err := f.Find(local, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, ErrNoUser) {
			t.Errorf("no such connection: %v", err)
		}
		c.Close()
		server.Close()
		time.Sleep(50 * time.Millisecond)
		if _, err := f.Find(local, remote); !errors.Is(err, ErrNoUser) {
			t.Errorf("TIME_WAIT: %v", err)
		}
	})
}

// TestRecordAgainstLsof compares what is saved about a process with lsof.
func TestRecordAgainstLsof(t *testing.T) {
	lsof := testkit.Tool(t, "lsof")
	bothWays(t, func(t *testing.T, f *Finder) {
		out, last := accept(t)
		cmd := run(t, fmt.Sprintf("SSH_CONNECTION='192.0.2.1 1 192.0.2.2 22'; export SSH_CONNECTION; exec nice -n 3 socat STDIN TCP:127.0.0.1:%d", out))
		local, remote := from(wait(t, last))
		found, err := f.Find(local, remote)
		if err != nil {
			t.Fatal(err)
		}
		w, err := f.Walk(found)
		if err != nil {
			t.Fatal(err)
		}
		p := w.Record()[0]
		if int(p.PID) != cmd.Process.Pid || int(p.Parent) != os.Getpid() || p.Name != "socat" || p.Nice != 3 || p.Gone {
			t.Errorf("owner: %+v", p)
		}
		if p.SSH != "192.0.2.1 1 192.0.2.2 22" {
			t.Errorf("SSH session %q", p.SSH)
		}
		if age := time.Since(p.Started); age < 0 || age > time.Minute {
			t.Errorf("started %v ago", age)
		}
		sum, _ := exec.Command("sha256sum", p.Executable).Output()
		if !strings.HasPrefix(string(sum), p.SHA256) || len(p.SHA256) != 64 {
			t.Errorf("hash of %s: %s, sha256sum says %s", p.Executable, p.SHA256, sum)
		}
		listing, err := exec.Command(lsof, "-nP", "-p", strconv.Itoa(cmd.Process.Pid)).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := record.SocketRecord{Inode: found.Inode, Local: local, Remote: remote, State: "established", Direction: began(f).String()}
		if !slices.Contains(p.Sockets, want) || !strings.Contains(string(listing), fmt.Sprintf("TCP %v->%v (ESTABLISHED)", local, remote)) {
			t.Errorf("sockets %+v; lsof:\n%s", p.Sockets, listing)
		}
		for _, pipe := range p.Pipes {
			if !strings.Contains(string(listing), fmt.Sprintf("%d pipe", pipe)) {
				t.Errorf("lsof knows no pipe %d:\n%s", pipe, listing)
			}
		}
		if got, want := len(p.Pipes), strings.Count(string(listing), "FIFO"); got == 0 || got > want {
			t.Errorf("%d pipes, lsof shows %d ends", got, want)
		}
	})
}
