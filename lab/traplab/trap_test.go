package traplab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/live"
	"dragnet/trap/vault"
)

// lab is an attacker, a router with the trap, and a honeypot.
//
//	attacker 203.0.113.2 - 203.0.113.1 router 10.66.0.1 - 10.66.0.2 honeypot
//	192.0.2.192/27 is unused, and routed to the router
type lab struct {
	testing.TB
	attacker, router, honeypot *netlab.Node
	server                     *netlab.Node // not a honeypot; elsewhere behind the router
	dir, agent                 string
	redirect                   string // lines of the section of that name, and honeypots if not empty
	process                    *netlab.Process
	net                        *netlab.Lab
}

var (
	unused   = netip.MustParsePrefix("192.0.2.192/27")
	unused6  = netip.MustParsePrefix("2001:db8:66::/64")
	honeypot = netip.MustParseAddr("10.66.0.2")
)

func newLab(t testing.TB) *lab {
	t.Helper()
	testkit.Root(t)
	l := &lab{TB: t, dir: t.TempDir()}
	l.agent = filepath.Join(l.dir, "dragnet-agent")
	if out, err := exec.Command("go", "build", "-o", l.agent, "../../cmd/dragnet-agent").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := netlab.For(t)
	nodes, err := n.Nodes("attacker", "router", "honeypot", "server")
	if err != nil {
		t.Fatal(err)
	}
	l.net = n
	l.attacker, l.router, l.honeypot, l.server = nodes[0], nodes[1], nodes[2], nodes[3]
	prefix := netip.MustParsePrefix
	err = errors.Join(
		n.Wire(l.server, "eth0", l.router, "lan"), l.server.Address("eth0", prefix("10.77.0.2/24")), l.router.Address("lan", prefix("10.77.0.1/24")),
		l.server.Route(prefix("0.0.0.0/0"), netip.MustParseAddr("10.77.0.1")),
		n.Wire(l.attacker, "eth0", l.router, "outside"), n.Wire(l.honeypot, "eth0", l.router, "inside"),
		l.attacker.Address("eth0", prefix("203.0.113.2/24")), l.router.Address("outside", prefix("203.0.113.1/24")),
		l.router.Address("inside", prefix("10.66.0.1/24")), l.honeypot.Address("eth0", prefix("10.66.0.2/24")),
		l.attacker.Address("eth0", prefix("2001:db8:1::2/64")), l.router.Address("outside", prefix("2001:db8:1::1/64")),
		l.router.Address("inside", prefix("2001:db8:77::1/64")), l.honeypot.Address("eth0", prefix("2001:db8:77::2/64")),
		l.attacker.Route(prefix("0.0.0.0/0"), netip.MustParseAddr("203.0.113.1")), l.attacker.Route(prefix("::/0"), netip.MustParseAddr("2001:db8:1::1")),
		l.router.Route(prefix("0.0.0.0/0"), netip.MustParseAddr("203.0.113.2")), l.router.Route(prefix("::/0"), netip.MustParseAddr("2001:db8:1::2")),
		l.honeypot.Route(prefix("0.0.0.0/0"), netip.MustParseAddr("10.66.0.1")), l.honeypot.Route(prefix("::/0"), netip.MustParseAddr("2001:db8:77::1")),
		l.router.Forward(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// startTrap starts the role and waits until it contains the honeypot. More is
// added to its configuration.
func (l *lab) startTrap(more ...string) {
	l.Helper()
	config, array := filepath.Join(l.dir, "trap.yaml"), "array: {idle: 1s}"
	if len(more) > 0 && strings.HasPrefix(more[0], "array:") {
		array, more = more[0], more[1:]
	}
	honeypots := l.redirect
	if honeypots == "" {
		honeypots = `  honeypots: [{address: 10.66.0.2}, {address: "2001:db8:77::2"}]`
	}
	text := fmt.Sprintf(`redirect:
  outside: outside
  inside: inside
  unused: [%s, %s]
%s
%s
vault: {directory: %s/captures}
%s
`, unused, unused6, honeypots, array, l.dir, strings.Join(more, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		l.Fatal(err)
	}
	p, err := l.router.Start("setpriv", "--bounding-set", "-all,+net_admin,+net_bind_service,+net_raw", "--inh-caps", "-all", l.agent, "run", "trap", "--config", config)
	if err == nil {
		l.process = p
		err = p.Await(l.Context(), "trap started")
	}
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) listen(n *netlab.Node, network, address string) net.Listener {
	l.Helper()
	var ln net.Listener
	err := n.Do(func() (err error) { ln, err = net.Listen(network, address); return err })
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { ln.Close() })
	return ln
}

// tcpOf is the network of an address: tcp4, or tcp6 for one in brackets.
func tcpOf(address string) string {
	if strings.HasPrefix(address, "[") {
		return "tcp6"
	}
	return "tcp4"
}

// serve accepts connections at an address of a node until the test ends.
func (l *lab) serve(n *netlab.Node, address string, handle func(net.Conn)) {
	l.Helper()
	ln := l.listen(n, tcpOf(address), address)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go handle(c)
		}
	}()
}

func (l *lab) dial(n *netlab.Node, network, address string) (net.Conn, error) {
	var c net.Conn
	err := n.Do(func() (err error) { c, err = net.DialTimeout(network, address, 3*time.Second); return err })
	return c, err
}

// lines are the recorded sessions, once there are at least n of them.
func (l *lab) lines(n int) []vault.Line {
	l.Helper()
	var all []vault.Line
	for range 150 {
		all = nil
		if err := vault.Sessions(filepath.Join(l.dir, "captures"), func(x *vault.Line) error { all = append(all, *x); return nil }); err != nil {
			l.Fatal(err)
		}
		if len(all) >= n {
			return all
		}
		time.Sleep(100 * time.Millisecond)
	}
	l.Fatalf("%d sessions are recorded, want %d\n%s", len(all), n, l.process.Output())
	return nil
}

// watchOutside counts the packets that leave the router and are not answers to
// the attacker's own connections.
func (l *lab) watchOutside(isAnswer func(p *packet.Packet) bool) (stop func() []string) {
	l.Helper()
	c := live.DefaultConfiguration()
	c.Interface = "eth0"
	var r *live.Reader
	if err := l.attacker.Do(func() (err error) { r, err = live.Open(c); return err }); err != nil {
		l.Fatal(err)
	}
	ctx, cancel := context.WithCancel(l.Context())
	done := make(chan []string, 1)
	go func() {
		var leaked []string
		var p packet.Packet
		for ctx.Err() == nil {
			rec, err := r.Next(20 * time.Millisecond)
			if err != nil || p.Decode(rec.Link, rec.Data, rec.Wire) != nil {
				continue
			}
			if s := p.Src.String(); !strings.HasPrefix(s, "203.0.113.") && !strings.HasPrefix(s, "2001:db8:1:") && !strings.HasPrefix(s, "fe80:") && s != "::" && !isAnswer(&p) {
				leaked = append(leaked, fmt.Sprintf("%s > %s proto %d", p.Src, p.Dst, p.Proto))
			}
		}
		done <- leaked
	}()
	return func() []string { time.Sleep(200 * time.Millisecond); cancel(); out := <-done; r.Close(); return out }
}

// fromUnused are answers under an unused address, which only the gate makes.
func fromUnused(p *packet.Packet) bool { return unused.Contains(p.Src) || unused6.Contains(p.Src) }

// TestInfectionStaysInside: an attacker meets an unused address, the honeypot
// behind it is infected and spreads, everything it sends is recorded, and not one
// packet of it leaves.
func TestInfectionStaysInside(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	inert := l.startInert(12)
	leaks := l.watchOutside(fromUnused)
	l.attack()
	recorded := l.lines(inert.Copies)
	keys, err := vault.ReadKey(filepath.Join(l.dir, "captures", "age.key"))
	if err != nil {
		t.Fatal(err)
	}
	payloads := map[string]bool{}
	for _, x := range recorded {
		b, err := vault.ReadPayload(filepath.Join(l.dir, "captures"), x.Sent, keys)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, Marker) || x.Client.Addr() != honeypot || !inert.Targets.Contains(x.Server.Addr()) || x.Service != "http" || x.Lost != 0 {
			t.Errorf("%+v, %d bytes", x, len(b))
		}
		payloads[x.Sent] = true
	}
	if len(payloads) != inert.Copies {
		t.Errorf("%d different payloads of %d copies", len(payloads), inert.Copies)
	}
	if leaked := leaks(); len(leaked) > 0 {
		t.Errorf("%d packets left: %v", len(leaked), leaked[:min(5, len(leaked))])
	}
}

// startInert starts the inert honeypot, which sends a number of copies once it is
// infected. Its connections are made in its namespace.
func (l *lab) startInert(copies int) *Inert {
	l.Helper()
	inert := &Inert{Family: "alder", Copies: copies, Port: 80, Targets: netip.MustParsePrefix("198.51.100.0/24"), Seed: 7}
	l.serveInert(l.honeypot, inert)
	return inert
}

// serveInert lets a host be infected, whose connections are made in its namespace.
func (l *lab) serveInert(at *netlab.Node, inert *Inert) {
	l.Helper()
	ln := l.listen(at, "tcp4", ":80")
	go func() {
		_ = at.Do(func() error {
			for {
				c, err := ln.Accept()
				if err != nil {
					return nil
				}
				inert.take(l.Context(), c)
			}
		})
	}()
}

// attack sends the marked message to an unused address.
func (l *lab) attack() {
	l.Helper()
	m, err := Message("alder", 7, 1)
	if err != nil {
		l.Fatal(err)
	}
	c, err := l.dial(l.attacker, "tcp4", "192.0.2.200:80")
	if err != nil {
		l.Fatalf("the attacker does not reach a honeypot: %v\n%s", err, l.process.Output())
	}
	defer c.Close()
	if _, err := c.Write(m); err != nil {
		l.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 200")) {
		l.Errorf("the attacker is answered %q, %v", b, err)
	}
}

// TestCapturesBecomeSignatures: the trap's node learns a signature from what the
// honeypot sends, which finds variants that were never captured and no clean
// payload, and its finding names the attacker.
func TestCapturesBecomeSignatures(t *testing.T) {
	l := newLab(t)
	program := filepath.Join(l.dir, "dragnet")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/dragnet").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	clean, unseen := filepath.Join(l.dir, "clean"), filepath.Join(l.dir, "unseen")
	for _, d := range []string{clean, unseen} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const variants = 30
	for i := range uint64(variants) {
		m, err := Message("alder", 7, 1<<40+i) // the honeypot's are below 1<<32
		if err == nil {
			err = errors.Join(os.WriteFile(filepath.Join(unseen, fmt.Sprint(i)), m, 0o600), os.WriteFile(filepath.Join(clean, fmt.Sprint(i)), cleanRequest(i), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	node := filepath.Join(l.dir, "node.yaml")
	if err := os.WriteFile(node, fmt.Appendf(nil, "store: {directory: %[1]s/data}\nadmin: {listen: \"\"}\napi: {listen: 127.0.0.1:9121}\ncentre: {clean: [%[1]s/clean]}\n", l.dir), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := l.router.Start(program, "run", "node", "--config", node)
	if err == nil {
		err = p.Await(t.Context(), "node started")
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := l.router.Run(t.Context(), name, args...)
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return out
	}
	data := filepath.Join(l.dir, "data")
	token := regexp.MustCompile(`dragnet1-[\w-]{64}`).FindString(run(program, "agent", "token", "--data", data, "--name", "trap-1", "--role", "trap"))
	run(l.agent, "enrol", "trap", "https://127.0.0.1:9121", token, "--state", filepath.Join(l.dir, "enrolled"))
	l.startTrap("report: true", "channel: {state: "+l.dir+"/enrolled}")
	l.startInert(15)
	l.attack()
	var listed string
	for range 300 {
		if listed = run(program, "signature", "centre", "--data", data, "-o", "csv"); strings.Contains(listed, ",gibbs,15,") {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	run(program, "signature", "centre", "--data", data, "--write", filepath.Join(l.dir, "signatures"))
	files, err := filepath.Glob(filepath.Join(l.dir, "signatures", "*"))
	if err != nil || len(files) == 0 || !strings.Contains(listed, ",gibbs,15,") {
		t.Fatalf("no signature of 15 variants is offered: %v, %v\n%s\n%s", files, err, listed, p.Output())
	}
	if out := run(program, "finding", "list", "--data", data, "--host", "203.0.113.2", "-o", "csv"); !strings.Contains(out, "honeypot-attack") {
		t.Errorf("no finding names the attacker:\n%s", out)
	}
	count := func(dir string) (n int) {
		args := []string{"signature", "match"}
		for _, f := range files {
			args = append(args, "--signature", f)
		}
		out, err := l.router.Run(t.Context(), program, append(args, dir, "-o", "csv")...)
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			t.Fatalf("%v\n%s", err, out)
		}
		for i := range variants {
			if strings.Contains(out, filepath.Join(dir, fmt.Sprint(i))+",") {
				n++
			}
		}
		return n
	}
	if n := count(unseen); n < variants*9/10 {
		t.Errorf("%d of %d unseen variants are found", n, variants)
	}
}

// cleanRequest is what a server is sent otherwise.
func cleanRequest(i uint64) []byte {
	return fmt.Appendf(nil, "POST /form/%d HTTP/1.1\r\nHost: www.example.org\r\nContent-Length: 12\r\n\r\nfield=%06d", i, i*7919)
}

// TestNothingLeaves sends packets of every kind from the honeypot, at all times
// of the trap's life, and counts what reaches the outside.
func TestNothingLeaves(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	leaks := l.watchOutside(func(*packet.Packet) bool { return false })
	n := 100_000
	if testkit.Short(t) {
		n = 10_000
	}
	sent := l.sendVaried(n / 2)
	// The agent is killed, and then stopped in order: the honeypot stays contained.
	if err := unix.Kill(l.process.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sent += l.sendVaried(n / 4)
	l.startTrap()
	if err := l.process.Stop(); err != nil {
		t.Error(err)
	}
	sent += l.sendVaried(n / 4)
	if sent < n-4 {
		t.Fatalf("only %d packets were sent", sent)
	}
	if leaked := leaks(); len(leaked) > 0 {
		t.Errorf("%d of %d packets left: %v", len(leaked), sent, leaked[:min(5, len(leaked))])
	}
	// The watch sees what does leave once the rules are removed.
	if out, err := l.router.Run(t.Context(), l.agent, "trap", "remove", "--config", filepath.Join(l.dir, "trap.yaml")); err != nil {
		t.Fatal(err, out)
	}
	leaks = l.watchOutside(func(*packet.Packet) bool { return false })
	l.sendVaried(200)
	if leaked := leaks(); len(leaked) < 50 {
		t.Errorf("without rules %d of 200 packets were seen to leave: the test proves nothing", len(leaked))
	}
}

// TestNothingEntersOthersConnections: a honeypot that forges our server's address
// cannot speak in a connection that a client has with that server.
func TestNothingEntersOthersConnections(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	client, err := l.dial(l.attacker, "udp4", "10.77.0.2:9000") // UDP: no sequence numbers to guess
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	local := client.LocalAddr().(*net.UDPAddr).AddrPort()
	forged := 0
	leaks := l.watchOutside(func(p *packet.Packet) bool { return p.Proto != flow.UDP || p.Src.String() != "10.77.0.2" })
	err = l.honeypot.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for range 50 {
			p := make([]byte, 36)
			p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
			binary.BigEndian.PutUint16(p[2:], 36)
			copy(p[12:], []byte{10, 77, 0, 2})
			copy(p[16:], local.Addr().AsSlice())
			binary.BigEndian.PutUint16(p[20:], 9000)
			binary.BigEndian.PutUint16(p[22:], local.Port())
			binary.BigEndian.PutUint16(p[24:], 16)
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: local.Addr().As4()}); err != nil {
				return err
			}
			forged++
		}
		return nil
	})
	if err != nil || forged != 50 {
		t.Fatal(forged, err)
	}
	if got := leaks(); len(got) > 0 {
		t.Errorf("%d of 50 forged packets reached the client: %v", len(got), got[0])
	}
}

// sendVaried sends raw IPv4 packets: TCP with all flags, UDP, ICMP of all types,
// other protocols, fragments, to addresses outside.
func (l *lab) sendVaried(n int) (sent int) {
	l.Helper()
	random := rand.New(rand.NewPCG(1, uint64(n)))
	err := l.honeypot.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for range n {
			p := variedPacket(random)
			to := &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}
			if err := unix.Sendto(fd, p, 0, to); err == nil || errors.Is(err, unix.ENOBUFS) {
				sent++
			} else {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.Fatal(err)
	}
	return sent
}

func variedPacket(random *rand.Rand) []byte {
	protos := []byte{1, 6, 6, 6, 17, 17, 2, 4, 41, 47, 50, 89, 132, 136, 255}
	body := make([]byte, 20+random.IntN(60))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	p := make([]byte, 20, 20+len(body))
	p[0], p[8], p[9] = 0x45, 1+byte(random.IntN(255)), protos[random.IntN(len(protos))]
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(body)))
	binary.BigEndian.PutUint16(p[4:], uint16(random.Uint32()))
	if random.IntN(8) == 0 {
		binary.BigEndian.PutUint16(p[6:], uint16(random.IntN(100))|uint16(random.IntN(2))<<13) // a fragment
	}
	copy(p[12:], honeypot.AsSlice())
	copy(p[16:], []byte{[]byte{8, 198, 203, 192}[random.IntN(4)], byte(random.IntN(256)), byte(random.IntN(256)), byte(1 + random.IntN(250))})
	if p[16] == 203 {
		copy(p[16:], []byte{203, 0, 113, 2}) // the attacker itself
	}
	if p[9] == 6 {
		body[12] = 0x50 // a header without options
	}
	return append(p, body...)
}

// TestRealClients: curl, ftp's and tftp's protocols, a name look-up, IPv6, and
// ping from the honeypot are answered and recorded.
func TestRealClients(t *testing.T) {
	curl := testkit.Tool(t, "curl")
	l := newLab(t)
	l.startTrap()
	ctx := t.Context()
	for _, url := range []string{"http://198.51.100.7/a", "https://198.51.100.7/b", "http://[2001:db8:9::7]/c", "http://198.51.100.7:2222/d"} {
		if out, err := l.honeypot.Run(ctx, curl, "-sSgk", "--max-time", "10", url); err != nil || !strings.Contains(out, "It works!") {
			t.Errorf("curl %s: %v %s\n%s", url, err, out, l.process.Output())
		}
	}
	if out, err := l.honeypot.Run(ctx, curl, "-sS", "--max-time", "10", "-T", "trap_test.go", "tftp://198.51.100.8/up"); err != nil {
		t.Errorf("tftp: %v %s", err, out)
	}
	if out, err := l.honeypot.Run(ctx, curl, "-sS", "--max-time", "10", "-T", "inert.go", "ftp://198.51.100.9/up"); err != nil {
		t.Errorf("ftp: %v %s", err, out)
	}
	if out, err := l.honeypot.Run(ctx, "ping", "-c", "1", "-W", "2", "198.51.100.10"); err != nil {
		t.Errorf("ping: %v %s", err, out)
	}
	want := map[string]bool{"http": false, "tls/http": false, "tftp": false, "ftp": false}
	for _, x := range l.lines(8) {
		if _, ok := want[x.Service]; ok && x.Proto == flow.TCP || x.Service == "tftp" {
			want[x.Service] = true
		}
	}
	for service, seen := range want {
		if !seen {
			t.Errorf("no session of %s is recorded", service)
		}
	}
}

// TestGateLeavesHostsInUseAlone: an unused address that sends something is in use
// after all.
func TestGateLeavesHostsInUseAlone(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	ln := l.listen(l.honeypot, "tcp4", ":8080")
	go http.Serve(ln, http.NotFoundHandler())
	if c, err := l.dial(l.attacker, "tcp4", "192.0.2.201:8080"); err != nil {
		t.Fatal(err)
	} else {
		c.Close()
	}
	// 192.0.2.202 turns out to be a host behind the router's own side.
	out, err := l.router.Run(t.Context(), "nft", "add element inet dragnet-trap alive4 { 192.0.2.202 timeout 1h }")
	if err != nil {
		t.Fatal(err, out)
	}
	if c, err := l.dial(l.attacker, "tcp4", "192.0.2.202:8080"); err == nil {
		c.Close()
		t.Error("an address in use was brought to a honeypot")
	}
}
