package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safchain/ethtool"

	"dragnet/internal/testkit"
)

var (
	clientNet  = netip.MustParsePrefix("10.0.1.0/24")
	serverNet  = netip.MustParsePrefix("10.0.2.0/24")
	clientAddr = netip.MustParsePrefix("10.0.1.2/24")
	serverAddr = netip.MustParsePrefix("10.0.2.2/24")
	routerLeft = netip.MustParsePrefix("10.0.1.1/24")
	routerPort = netip.MustParsePrefix("10.0.2.1/24")
	everywhere = netip.MustParsePrefix("0.0.0.0/0")
)

// routed builds client - router - switch - server.
func routed(t *testing.T) (lab *Lab, client, router, server *Node) {
	t.Helper()
	lab = For(t)
	nodes, err := lab.Nodes("client", "router", "switch", "server")
	if err != nil {
		t.Fatal(err)
	}
	client, router, server = nodes[0], nodes[1], nodes[3]
	err = errors.Join(
		lab.Wire(client, "eth0", router, "left"),
		lab.Wire(router, "right", nodes[2], "p1"),
		lab.Wire(server, "eth0", nodes[2], "p2"),
		nodes[2].Bridge("br0", "p1", "p2"),
		client.Address("eth0", clientAddr),
		router.Address("left", routerLeft),
		router.Address("right", routerPort),
		server.Address("eth0", serverAddr),
		client.Route(everywhere, routerLeft.Addr()),
		server.Route(clientNet, routerPort.Addr()),
		router.Forward(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return lab, client, router, server
}

func TestRoutedConnection(t *testing.T) {
	_, client, _, server := routed(t)
	var listener net.Listener
	err := server.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(serverAddr.Addr(), 80).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr())
			conn.Close()
		}
	}()
	var seen []byte
	err = client.Do(func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		seen, err = io.ReadAll(conn)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if host, _, _ := strings.Cut(string(seen), ":"); host != clientAddr.Addr().String() {
		t.Errorf("the server saw its client as %q, want %s", seen, clientAddr.Addr())
	}
}

func TestTheMachineSeesNoInterface(t *testing.T) {
	routed(t)
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if slices.Contains([]string{"left", "right", "p1", "p2"}, i.Name) {
			t.Errorf("the lab's interface %s is among the machine's own", i.Name)
		}
	}
}

func TestRouteOnReachesASecondPrefixOfTheLink(t *testing.T) {
	lab := For(t)
	nodes, err := lab.Nodes("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	a, b := nodes[0], nodes[1]
	err = errors.Join(
		lab.Wire(a, "eth0", b, "eth0"),
		a.Address("eth0", clientAddr), b.Address("eth0", serverAddr),
		a.RouteOn(serverNet, "eth0"), b.RouteOn(clientNet, "eth0"),
	)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Tool(t, "ping")
	if _, err := a.Run(t.Context(), "ping", "-c1", "-W3", serverAddr.Addr().String()); err != nil {
		t.Error(err)
	}
}

func TestPacketsCrossAsOnAWire(t *testing.T) {
	_, client, router, _ := routed(t)
	for node, dev := range map[*Node]string{client: "eth0", router: "left"} {
		var features map[string]bool
		err := node.Do(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			features, err = tool.Features(dev)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-generic-segmentation", "rx-gro"} {
			if on, known := features[name]; on || !known {
				t.Errorf("%s %s: %s is on: %v, known: %v", node.Name, dev, name, on, known)
			}
		}
	}
}

func TestNameserverIsPerNode(t *testing.T) {
	_, client, _, server := routed(t)
	if err := client.Nameserver(serverAddr.Addr()); err != nil {
		t.Fatal(err)
	}
	for node, want := range map[*Node]bool{client: true, server: false} {
		out, err := node.Run(t.Context(), "cat", "/etc/resolv.conf")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out, "nameserver "+serverAddr.Addr().String()); got != want {
			t.Errorf("%s asks the client's nameserver: %v, want %v; resolv.conf: %s", node.Name, got, want, out)
		}
	}
}

func TestBuildingErrorsNameThePlace(t *testing.T) {
	lab, client, router, _ := routed(t)
	if _, err := lab.Nodes("client"); err == nil {
		t.Error("two nodes of one name were accepted")
	}
	for _, err := range []error{
		client.Address("eth7", clientAddr),
		client.Route(serverNet, netip.MustParseAddr("172.16.0.1")),
		client.Sysctl("net.ipv4.no_such", "1"),
		lab.Wire(client, "eth0", router, "again"),
	} {
		if err == nil || !strings.Contains(err.Error(), "client") {
			t.Errorf("error %v does not name the node", err)
		}
	}
}

func TestProcess(t *testing.T) {
	_, client, _, _ := routed(t)
	p, err := client.Start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Await(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.Pid())); err != nil || strings.TrimSpace(string(comm)) != "sh" {
		t.Errorf("pid %d is %q (%v), want the program itself", p.Pid(), comm, err)
	}
	if err := p.Stop(); err != nil { // it ignores SIGTERM
		t.Error(err)
	}
	if isAlive(p.Pid()) {
		t.Error("the program outlived Stop")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}

	p, err = client.Start("sh", "-c", "echo broken; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(ctx, "ready"); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("Await on a program that ended: %v, want its output", err)
	}
	if _, err := client.Run(ctx, "sh", "-c", "echo why; exit 1"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("Run of a failing program: %v, want its output", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := client.Run(short, "sleep", "60"); err == nil {
		t.Error("Run outlived its context")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	testkit.Tool(t, "setsid")
	lab, client, _, _ := routed(t)
	if err := client.Nameserver(serverAddr.Addr()); err != nil {
		t.Fatal(err)
	}
	daemon := startDaemon(t, client)
	id := lab.id
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if isAlive(daemon) {
		t.Errorf("daemon %d outlived Close", daemon)
	}
	if left := leftovers(t, id); len(left) > 0 {
		t.Errorf("Close left %v", left)
	}
	if err := lab.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// startDaemon runs a program that leaves its parent, session and process
// group, and returns its process id.
func startDaemon(t *testing.T, n *Node) int {
	t.Helper()
	out, err := n.Run(t.Context(), "sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(out, &pid); err != nil || !isAlive(pid) {
		t.Fatalf("no daemon: %q, %v", out, err)
	}
	return pid
}

func leftovers(t *testing.T, id string) []string {
	t.Helper()
	var left []string
	for _, dir := range []string{namesDir, configDir} {
		found, err := filepath.Glob(filepath.Join(dir, id+"*"))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// crashEnv makes this test binary, run again, the process that is killed.
const crashEnv = "NETLAB_CRASH"

func TestNewSweepsAfterAKilledProcess(t *testing.T) {
	if os.Getenv(crashEnv) != "" {
		crash(t)
	}
	testkit.Root(t)
	testkit.Tool(t, "setsid")
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), crashEnv+"=1")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process to kill ended by %v: %s", err, out)
	}
	id := fmt.Sprintf("%s%d-", prefix, cmd.Process.Pid)
	if len(leftovers(t, id)) == 0 {
		t.Fatal("the killed process left nothing to sweep")
	}
	var daemon int
	if _, err := fmt.Sscanf(string(out), "daemon %d", &daemon); err != nil || !isAlive(daemon) {
		t.Fatalf("no daemon outlived the killed process: %q, %v", out, err)
	}
	For(t)
	if left := leftovers(t, id); len(left) > 0 {
		t.Errorf("New left %v of a process that is gone", left)
	}
	if isAlive(daemon) {
		t.Errorf("daemon %d outlived the sweep", daemon)
	}
}

// crash builds a lab and dies without closing it.
func crash(t *testing.T) {
	lab, err := New()
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := lab.Nodes("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].Nameserver(serverAddr.Addr()); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("daemon %d\n", startDaemon(t, nodes[0]))
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func TestOwner(t *testing.T) {
	for name, want := range map[string]int{
		"dragnet-12-ab3d-client": 12, "dragnet-12": 0, "dragnet-x-1": 0, "dragnet--5-x": 0, "other-12-x": 0, "dragnet-0-x-y": 0,
	} {
		pid, ok := ownerOf(name)
		if ok != (want != 0) || ok && pid != want {
			t.Errorf("owner(%q) = %d, %v; want %d", name, pid, ok, want)
		}
	}
}

// TestNewSweepsAHalfMadeNamespace: a process was killed after it made the file of a
// namespace, before it mounted it.
func TestNewSweepsAHalfMadeNamespace(t *testing.T) {
	testkit.Root(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(namesDir, fmt.Sprintf("%s%d-half", prefix, gone.Process.Pid))
	if err := errors.Join(os.MkdirAll(namesDir, 0o755), os.WriteFile(path, nil, 0o444)); err != nil {
		t.Fatal(err)
	}
	if err := sweepLeftovers(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
