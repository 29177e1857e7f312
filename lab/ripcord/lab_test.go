// Package ripcord_test runs the gateway between real kernels: a host, a
// gateway and a victim, each in a separate network namespace.
package ripcord_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	"dragnet/contain/ripcord"
	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// TestMain builds the agent once.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ripcord-lab-")
	if err == nil {
		agent = filepath.Join(dir, "dragnet-agent")
		cmd := exec.Command("go", "build", "-o", agent, "dragnet/cmd/dragnet-agent")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// agent is the path of the built program.
var agent string

// lab is host - gateway - victim.
type lab struct {
	t                     testing.TB
	net                   *netlab.Lab
	host, gateway, victim *netlab.Node
	dir, config, pins     string
	agent                 *netlab.Process
	tables                *bpf.Wire // the pinned ones; opened by counter
}

// Addresses of the host and the victim.
var (
	hostIPs   = [2]netip.Addr{netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("fd07::1")}
	victimIPs = [2]netip.Addr{netip.MustParseAddr("10.7.0.2"), netip.MustParseAddr("fd07::2")}
)

// newLab wires the three; offloads says whether packets may be larger than a
// frame and carry partial checksums, as between virtual machines.
func newLab(t testing.TB, offloads bool, config string) *lab {
	t.Helper()
	testkit.Long(t) // the agent under test is another process
	l := &lab{t: t, net: netlab.For(t), dir: t.TempDir()}
	nodes, err := l.net.Nodes("host", "gateway", "victim")
	l.check(err)
	l.host, l.gateway, l.victim = nodes[0], nodes[1], nodes[2]
	l.check(errors.Join(
		l.net.Wire(l.host, "eth0", l.gateway, "inside"), l.net.Wire(l.gateway, "outside", l.victim, "eth0"),
		l.host.Address("eth0", netip.PrefixFrom(hostIPs[0], 24)), l.victim.Address("eth0", netip.PrefixFrom(victimIPs[0], 24)),
		l.host.Address("eth0", netip.PrefixFrom(hostIPs[1], 64)), l.victim.Address("eth0", netip.PrefixFrom(victimIPs[1], 64)),
	))
	if offloads {
		l.check(errors.Join(l.host.Offload("eth0", true), l.gateway.Offload("inside", true),
			l.gateway.Offload("outside", true), l.victim.Offload("eth0", true)))
	}
	bpffs := filepath.Join(l.dir, "bpf")
	l.check(os.Mkdir(bpffs, 0o700))
	l.check(unix.Mount("bpf", bpffs, "bpf", 0, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(bpffs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l.pins = filepath.Join(bpffs, "ripcord")
	l.config = filepath.Join(l.dir, "ripcord.yaml")
	text := fmt.Sprintf("host: inside\nnetwork: outside\nenforce: true\npins: %s\nstate: %s\n%s", l.pins, filepath.Join(l.dir, "state"), config)
	l.check(os.WriteFile(l.config, []byte(text), 0o600))
	return l
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// start runs the agent until packets pass.
func (l *lab) start() {
	l.t.Helper()
	var err error
	l.agent, err = l.gateway.Start(agent, "run", "ripcord", "--config", l.config)
	l.check(err)
	// The kernel checks the programs for seconds, longer beside other tests.
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*time.Minute)
	defer cancel()
	l.check(l.agent.Await(ctx, "gateway started"))
	started := l.agent
	l.t.Cleanup(func() {
		if !l.t.Failed() {
			return
		}
		l.t.Log("agent:\n" + started.Output())
		if s, err := ripcord.ReadStatus(l.pins); err == nil {
			b, _ := json.MarshalIndent(s, "", " ")
			l.t.Logf("gateway: %s", b)
		}
	})
}

// counter reads one of the gateway's counters, by its name.
func (l *lab) counter(name string) uint64 {
	l.t.Helper()
	if l.tables == nil {
		w, err := bpf.Open(l.pins)
		l.check(err)
		l.t.Cleanup(func() { w.Close() })
		l.tables = w
	}
	sum, err := l.tables.Counters()
	l.check(err)
	for r, n := range sum {
		if tables.Reason(r).String() == name {
			return n
		}
	}
	l.t.Fatalf("no counter %s", name)
	return 0
}

// until waits for something to come true.
func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for range 2400 {
		if ok() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	l.t.Fatalf("it never came that %s", what)
}

// listen opens a server in a node that hands its connections to serve.
func (l *lab) listen(n *netlab.Node, at netip.AddrPort, serve func(*net.TCPConn)) net.Listener {
	l.t.Helper()
	var ln net.Listener
	l.check(n.Do(func() (err error) {
		ln, err = net.Listen("tcp", at.String())
		return err
	}))
	l.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c.(*net.TCPConn))
		}
	}()
	return ln
}

func (l *lab) dial(n *netlab.Node, from, to netip.AddrPort) (conn *net.TCPConn, err error) {
	err = n.Do(func() error {
		d := net.Dialer{Timeout: 10 * time.Second}
		if from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(from)
		}
		c, err := d.Dial("tcp", to.String())
		if err == nil {
			conn = c.(*net.TCPConn)
		}
		return err
	})
	return conn, err
}

func (l *lab) mustDial(n *netlab.Node, from, to netip.AddrPort) *net.TCPConn {
	l.t.Helper()
	c, err := l.dial(n, from, to)
	l.check(err)
	l.t.Cleanup(func() { c.Close() })
	return c
}

// echo is a server that gives back what it gets.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.Close()
}

// ask sends some octets over a connection to an echo server and wants them back.
func ask(c net.Conn, size int) error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	defer c.SetDeadline(time.Time{})
	want := bytes.Repeat([]byte("ripcord "), size/8+1)[:size]
	var sent error
	var done sync.WaitGroup
	done.Go(func() { _, sent = c.Write(want) })
	got := make([]byte, size)
	_, err := io.ReadFull(c, got)
	done.Wait()
	if err := errors.Join(err, sent); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("other octets came back")
	}
	return nil
}

// receipts are the lines of the record of blocks.
func (l *lab) receipts() string {
	b, _ := os.ReadFile(ripcord.ReceiptFile(filepath.Join(l.dir, "state")))
	return strings.TrimSpace(string(b))
}

func needs(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		testkit.Tool(t, tool)
	}
}
