//go:build linux

package walk

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"dragnet/internal/testkit"
	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// TestMain lets the test run itself as a program that hides a socket.
func TestMain(m *testing.M) {
	if how := os.Getenv("HIDE_SOCKET"); how != "" {
		if err := hideSocket(how, os.Getenv("HIDE_ADDRESS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

// hideSocket connects, and keeps the connection without a descriptor.
func hideSocket(how, address string) error {
	c, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	switch how {
	case "ring":
		var params [120]byte // struct io_uring_params
		ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		if errno != 0 {
			return fmt.Errorf("io_uring_setup: %w", errno)
		}
		const registerFiles = 2 // IORING_REGISTER_FILES
		fds := [1]int32{int32(f.Fd())}
		if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, ring, registerFiles, uintptr(unsafe.Pointer(&fds)), 1, 0, 0); errno != 0 {
			return fmt.Errorf("io_uring_register: %w", errno)
		}
	case "pipes":
		limit := unix.Rlimit{Cur: 3 * maxPipes, Max: 3 * maxPipes}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		for range maxPipes/2 + 100 { // each has two ends
			if err := unix.Pipe2(new([2]int)[:], unix.O_CLOEXEC); err != nil {
				return err
			}
		}
		time.Sleep(time.Minute)
	case "memory":
		// Kept until the process ends, as is the connection.
		if _, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON); err != nil {
			return err
		}
		time.Sleep(time.Minute)
	case "flight":
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
			return err
		}
	}
	f.Close()
	return c.Close()
}

// TestSocketsWithoutDescriptor looks for connections that no descriptor shows.
func TestSocketsWithoutDescriptor(t *testing.T) {
	bothWays(t, func(t *testing.T, f *Finder) {
		for how, want := range map[string]Relation{"ring": RingWith, "flight": FlightWith} {
			out, last := accept(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "HIDE_SOCKET="+how, "HIDE_ADDRESS="+loopback(out))
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			local, remote := from(wait(t, last))
			var owners []Step
			var end *record.End
			for range 200 { // until it has closed its descriptors
				found, err := f.Find(local, remote)
				if err != nil {
					t.Fatal(err)
				}
				w, err := f.Walk(found)
				if err != nil {
					t.Fatal(err)
				}
				end = w.End()
				owners = slices.DeleteFunc(w.Steps, func(st Step) bool { return st.Inode != found.Inode })
				if len(owners) == 0 || owners[0].Via != Owner {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			// Any process of the same user to which a descriptor is on its way may
			// receive it, those of other tests too.
			mine := slices.IndexFunc(owners, func(st Step) bool { return int(st.PID) == cmd.Process.Pid })
			if mine < 0 || owners[mine].Via != want || how == "ring" && len(owners) != 1 {
				t.Errorf("%s: %+v, want process %d, which %s", how, owners, cmd.Process.Pid, want)
			}
			guessed := slices.ContainsFunc(end.Unseen, func(u record.Unseen) bool { return u.What == record.NoHolder && int(u.PID) == cmd.Process.Pid })
			if guessed != (how == "flight") {
				t.Errorf("%s: the record says that the holder is guessed: %v", how, guessed)
			}
		}
	})
}

// endOf starts a command with an outbound connection and grades its walk.
func endOf(t *testing.T, f *Finder, command string) (*record.End, *Walked) {
	t.Helper()
	out, last := accept(t)
	run(t, strings.ReplaceAll(command, "OUT", fmt.Sprint(out)))
	found, err := f.Find(from(wait(t, last)))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // relays open their other half after it
	w, err := f.Walk(found)
	if err != nil {
		t.Fatal(err)
	}
	return w.End(), w
}

// TestObstaclesAreReported has relays through which a walk does not see: each must
// be reported as cut, with what it met.
func TestObstaclesAreReported(t *testing.T) {
	testkit.Tool(t, "socat")
	testkit.Tool(t, "nc")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(file, 0o666)
	bothWays(t, func(t *testing.T, f *Finder) {
		for _, c := range []struct {
			command string
			want    record.Obstacle
			detail  string
		}{
			{"HIDE_SOCKET=memory HIDE_ADDRESS=127.0.0.1:OUT exec " + os.Args[0], record.Memory, "/dev/zero"},
			{"tail -f " + file + " | nc 127.0.0.1 OUT", record.OpenFile, file},
			{"exec socat PTY,link=" + dir + "/pty TCP:127.0.0.1:OUT", record.Terminal, "pts/"},
			{"exec socat UDP-RECV:0,bind=127.0.0.1 TCP:127.0.0.1:OUT", record.Datagram, "UDP"},
			{"SSH_CONNECTION='192.0.2.1 1 192.0.2.2 22' exec socat PIPE TCP:127.0.0.1:OUT", record.LoginGone, "192.0.2.1"},
		} {
			os.Remove(dir + "/pty")
			end, w := endOf(t, f, c.command)
			met := slices.ContainsFunc(end.Unseen, func(u record.Unseen) bool { return u.What == c.want && strings.Contains(u.Detail, c.detail) })
			if end.Grade != record.Cut || !met {
				t.Errorf("%s: %+v, want cut with %s in\n%+v", c.command, end, c.want, w.Record())
			}
		}
		f.config.MaxProcesses = 2
		end, _ := endOf(t, f, "nc 127.0.0.1 OUT | cat | cat")
		if end.Grade != record.Cut || !slices.ContainsFunc(end.Unseen, func(u record.Unseen) bool { return u.What == record.Bound }) {
			t.Errorf("beyond the limit: %+v", end)
		}
	})
}

// TestManyPipesAreReported has a process with more ends of pipes than are kept.
func TestManyPipesAreReported(t *testing.T) {
	bothWays(t, func(t *testing.T, f *Finder) {
		out, last := accept(t)
		cmd := run(t, fmt.Sprintf("HIDE_SOCKET=pipes HIDE_ADDRESS=%s exec %s", loopback(out), os.Args[0]))
		found, err := f.Find(from(wait(t, last)))
		if err != nil {
			t.Fatal(err)
		}
		var end *record.End
		waitUntil(t, func() bool {
			w, err := f.Walk(found)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(w.snapshot.objectsOf(int32(cmd.Process.Pid))); n > maxPipes+100 {
				t.Fatalf("%d objects are kept of the process", n)
			}
			end = w.End()
			return slices.ContainsFunc(end.Unseen, func(u record.Unseen) bool {
				return u.What == record.Bound && int(u.PID) == cmd.Process.Pid && strings.Contains(u.Detail, "pipes")
			})
		})
		if end.Grade != record.Cut {
			t.Errorf("%+v", end)
		}
	})
}

func TestParsesWhatHides(t *testing.T) {
	ring := "SqMask:\t0x1\nUserFiles:\t3\n    0: socket:[4711]\n    1: /tmp/x: socket:[12\n    2: socket:[18446744073709551616]\nUserBufs:\t0\n"
	if got := parseRegistered([]byte(ring)); !slices.Equal(got, []uint64{4711}) {
		t.Errorf("%v", got)
	}
	for text, want := range map[string]int{"pos:\t0\nscm_fds: 2\n": 2, "scm_fds: x\n": 0, "": 0, "scm_fds:": 0} {
		if got := countWaiting([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func FuzzWhatHides(f *testing.F) {
	f.Add([]byte("UserFiles:\t1\n    0: socket:[4711]\nscm_fds: 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(parseRegistered(b)); n > len(b)/10+1 {
			t.Fatalf("%d sockets in %d octets", n, len(b))
		}
		countWaiting(b)
	})
}
