package daw_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// isp is two customer networks behind an edge router each, or three, and the rest of
// the world behind the core, or in it:
//
//	customer1 10.1.0.0/24 -- edge1 --+
//	                                 core: 198.18.0.0/15 refuses, 203.0.113.10 serves
//	customer2 10.2.0.0/24 -- edge2 --+
type isp struct {
	t               testing.TB
	net             *netlab.Lab
	dir             string
	customers       [3]*netlab.Node
	edges           [3]*netlab.Node
	core            *netlab.Node
	outside         *netlab.Node // who answers and refuses
	guards          [3]*netlab.Process
	node            *netlab.Process
	dragnet, agent  string
	kernel          bool // guards are in the kernel
	benign, refused int
	started         time.Time
}

// folder holds the programs that the labs run; TestMain makes and removes it.
var folder string

// programs compiles both programs for the first lab that asks.
var programs = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-o", folder, "dragnet/cmd/dragnet", "dragnet/cmd/dragnet-agent")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, b)
	}
	return nil
})

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "daw-lab-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

func newISP(t testing.TB) *isp {
	t.Helper()
	testkit.Tool(t, "nft")
	testkit.Tool(t, "setpriv")
	dir := t.TempDir() // before the lab, which ends those who write there
	net := netlab.For(t)
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	l := &isp{t: t, net: net, dir: dir, started: time.Now(), dragnet: filepath.Join(folder, "dragnet"), agent: filepath.Join(folder, "dragnet-agent")}
	nodes, err := net.Nodes("customer1", "customer2", "edge1", "edge2", "core")
	if err != nil {
		t.Fatal(err)
	}
	l.core, l.outside = nodes[4], nodes[4]
	for i := range 2 {
		l.addCustomer(i, nodes[i], nodes[2+i])
	}
	l.addWorld()
	l.serve()
	return l
}

// addCustomer connects a customer network and its edge router to the core.
func (l *isp) addCustomer(i int, customer, edge *netlab.Node) {
	l.t.Helper()
	l.customers[i], l.edges[i] = customer, edge
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	n := i + 1
	port := fmt.Sprintf("edge%d", n)
	err := errors.Join(
		l.net.Wire(customer, "eth0", edge, "inside"), l.net.Wire(edge, "outside", l.core, port),
		edge.Address("inside", prefix(fmt.Sprintf("10.%d.0.1/24", n))), edge.Address("outside", prefix(fmt.Sprintf("172.16.%d.2/30", n))),
		l.core.Address(port, prefix(fmt.Sprintf("172.16.%d.1/30", n))),
		l.core.Route(prefix(fmt.Sprintf("10.%d.0.0/24", n)), addr(fmt.Sprintf("172.16.%d.2", n))),
		edge.Route(prefix("0.0.0.0/0"), addr(fmt.Sprintf("172.16.%d.1", n))), edge.Forward(),
	)
	for host := 2; host < 60; host++ {
		err = errors.Join(err, customer.Address("eth0", prefix(fmt.Sprintf("10.%d.0.%d/24", n, host))))
	}
	if err = errors.Join(err, customer.Route(prefix("0.0.0.0/0"), addr(fmt.Sprintf("10.%d.0.1", n)))); err != nil {
		l.t.Fatal(err)
	}
}

// addWorld gives the outside its addresses. Every one of 198.18.0.0/15 is its own, where
// nothing listens.
func (l *isp) addWorld() {
	l.t.Helper()
	err := l.outside.Address("lo", netip.MustParsePrefix("203.0.113.10/32"))
	if err == nil {
		_, err = l.outside.Run(l.t.Context(), "ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo")
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// serve answers connections to 203.0.113.10, port 80.
func (l *isp) serve() {
	l.t.Helper()
	var server net.Listener
	err := l.outside.Do(func() (err error) { server, err = net.Listen("tcp4", "203.0.113.10:80"); return err })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { server.Close() })
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
}

// scanner is an infected host: it asks another address each time, at a pace.
type scanner struct {
	source netip.Addr
	passed int // scans that were refused by their target, so they were not held back
	sent   int
}

// scan scans until ctx ends. Each connection is given up soon after it was
// asked for, so that the kernel does not ask again.
func (l *isp) scan(ctx context.Context, customer, host, perSecond int) *scanner {
	s := &scanner{source: netip.AddrFrom4([4]byte{10, byte(customer + 1), 0, byte(host)})}
	n := uint32(customer<<5 | host)
	go func() {
		_ = l.customers[customer].Do(func() error {
			tick := time.NewTicker(time.Second / time.Duration(perSecond))
			defer tick.Stop()
			var open []int
			for ctx.Err() == nil {
				<-tick.C
				// Each in another /24, and no two hosts ask the same: a second
				// failure there would be free.
				fd, err := s.ask(n)
				if err != nil {
					return err
				}
				if n += 1 << 8; n >= 1<<17 {
					n = n&0xff + 1<<6
				}
				if open = append(open, fd); len(open) > perSecond/2 {
					s.settle(open[0])
					open = open[1:]
				}
			}
			for _, fd := range open {
				s.settle(fd)
			}
			return nil
		})
	}()
	return s
}

// ask begins a connection to port 80 of the n-th address of 198.18.0.0/15.
func (s *scanner) ask(n uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: s.source.As4()}); err != nil {
		return 0, err
	}
	to := [4]byte{198, 18 + byte(n>>16&1), byte(n >> 8), byte(n)}
	s.sent++
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to, Port: 80}); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return 0, err
	}
	return fd, nil
}

func (s *scanner) settle(fd int) {
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && unix.Errno(code) == unix.ECONNREFUSED {
		s.passed++
	}
	unix.Close(fd)
}

// visit connects to the server from an uninfected host, which must always work.
func (l *isp) visit(customer, host int) {
	l.t.Helper()
	err := l.customers[customer].Do(func() error {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(10, byte(customer+1), 0, byte(host))}}
		c, err := d.Dial("tcp4", "203.0.113.10:80")
		if err != nil {
			return err
		}
		return c.Close()
	})
	l.benign++
	if err != nil {
		l.refused++
		l.t.Errorf("an uninfected host is hindered: %v", err)
	}
}

// run runs dragnet beside the node, and returns what it printed.
func (l *isp) run(args ...string) string {
	l.t.Helper()
	var complaints strings.Builder
	cmd := exec.Command(l.dragnet, args...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("dragnet %v: %v: %s", args, err, complaints.String())
	}
	return string(out)
}

// decisions are the output of 'decision list', the latest first.
func (l *isp) decisions() []dossier.Decision {
	l.t.Helper()
	all, err := cli.ReadItems[dossier.Decision](strings.NewReader(l.run("decision", "list", "--data", l.dir+"/data", "--limit", "10000", "-o", "json")))
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// listed are the elements that the kernel of an edge has in sets of our table.
func (l *isp) listed(edge int, sets ...string) []string {
	l.t.Helper()
	var all []string
	for _, set := range sets {
		out, err := l.edges[edge].Run(context.Background(), "nft", "-j", "list", "set", "inet", "dragnet", set)
		if err != nil {
			if strings.Contains(out, "No such file") {
				continue
			}
			l.t.Fatal(err)
		}
		var answer struct {
			Nftables []struct {
				Set struct {
					Elem []struct {
						Elem struct{ Val string }
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			l.t.Fatalf("%v: %s", err, out)
		}
		for _, object := range answer.Nftables {
			for _, e := range object.Set.Elem {
				all = append(all, e.Elem.Val)
			}
		}
	}
	return all
}

// await waits until something holds.
func (l *isp) await(within time.Duration, what string, holds func() bool) {
	l.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(150 * time.Millisecond) {
		if holds() {
			return
		}
	}
	l.t.Errorf("%s: not within %v", what, within)
}
