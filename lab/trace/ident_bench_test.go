package trace_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// server is an ident daemon under measurement, in a separate control group:
// that counts the processor time of children which oidentd forks and forgets.
type server struct {
	name, address string
	stat          string // cpu.stat of the group
	times         []time.Duration
	used          time.Duration
	queries       int
}

func startServer(b *testing.B, name string, port int, argv ...string) *server {
	b.Helper()
	root := cgroupRoot(b)
	group := filepath.Join(root, fmt.Sprintf("dragnet-bench-%d-%s", os.Getpid(), name))
	if err := os.Mkdir(group, 0o755); err != nil {
		b.Fatal(err)
	}
	dir, err := os.Open(group)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
		for range 100 {
			if os.Remove(group) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	s := &server{name: name, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), stat: filepath.Join(group, "cpu.stat")}
	for range 200 {
		if c, err := net.Dial("tcp4", s.address); err == nil {
			c.Close()
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatalf("%s does not listen", name)
	return nil
}

func cgroupRoot(b *testing.B) string {
	b.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1]
		}
	}
	b.Skip("no cgroup2 file system is mounted: processor time cannot be counted")
	return ""
}

func (s *server) cpu(b *testing.B) time.Duration {
	text, err := os.ReadFile(s.stat)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("usage_usec "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n) * time.Microsecond
}

// ask asks once, as clients do: connect, ask, read, close.
func (s *server) ask(b *testing.B, local, remote uint16, want string) {
	from := time.Now()
	c, err := net.Dial("tcp4", s.address)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(c, "%d,%d\r\n", local, remote)
	line, err := bufio.NewReader(c).ReadString('\n')
	s.times = append(s.times, time.Since(from))
	c.Close()
	if err != nil && err != io.EOF || !strings.Contains(line, want) {
		b.Fatalf("%s answers %q, %v", s.name, line, err)
	}
	s.queries++
}

// BenchmarkIdent asks both daemons in turns, while the machine has 10,000
// open sockets; hits are connections this process began, misses are ports that
// are not in use.
func BenchmarkIdent(b *testing.B) {
	testkit.Root(b)
	oidentd := testkit.Tool(b, "oidentd")
	dir := b.TempDir()
	config := filepath.Join(dir, "ident.yaml")
	text := fmt.Sprintf("listen: [\"127.0.0.1:11301\"]\nstate: %s/state\nbudget: {per_minute: 1e9, burst: 1e9}\nconnections: 4096\nper_asker: 4096\n", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	connections := manyConnections(b, 5000)
	for _, c := range []struct {
		name      string
		miss      bool
		ours, his string
	}{{"hit", false, "USERID:OTHER", "USERID"}, {"miss", true, "NO-USER", "NO-USER"}} {
		b.Run(c.name, func(b *testing.B) {
			ours := startServer(b, "dragnet", 11301, filepath.Join(binaries, "dragnet-agent"), "run", "ident", "--config", config)
			his := startServer(b, "oidentd", 11302, oidentd, "-i", "-S", "-q", "-a", "127.0.0.1", "-p", "11302")
			for _, s := range []*server{ours, his} {
				s.ask(b, 1, 2, "NO-USER")
				s.times, s.queries = nil, 0
			}
			const turn = 50
			for i := 0; b.Loop(); i++ {
				for _, s := range []*server{ours, his} {
					want := map[*server]string{ours: c.ours, his: c.his}[s]
					before := s.cpu(b)
					for q := range turn {
						k := connections[(i*turn+q)%len(connections)]
						local, remote := k.local.Port(), k.remote.Port()
						if c.miss {
							remote = 9
						}
						s.ask(b, local, remote, want)
					}
					s.used += s.cpu(b) - before
				}
			}
			for _, s := range []*server{ours, his} {
				slices.Sort(s.times)
				b.ReportMetric(float64(s.used.Nanoseconds())/1e3/float64(s.queries), s.name+"-cpu-us/query")
				b.ReportMetric(float64(s.times[len(s.times)/2].Nanoseconds())/1e3, s.name+"-median-us")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

type ends struct{ local, remote netip.AddrPort }

// manyConnections begins n connections over loopback, which are two sockets
// each.
func manyConnections(b *testing.B, n int) []ends {
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	limit.Cur = limit.Max
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var out []ends
	var open []net.Conn
	b.Cleanup(func() {
		l.Close()
		for _, c := range open {
			c.Close()
		}
	})
	for range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		open = append(open, c, s)
		out = append(out, ends{c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()})
	}
	return out
}
