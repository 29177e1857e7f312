package traplab

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/packet"
)

// The whole way has, besides the lab, two organisations that never see the trap,
// each with a gateway that runs its node and a sensor. The attacker's machine is
// the Internet between them.
//
//	attacker 203.0.113.2 - borealis 192.0.2.0/26   one host infected, two not
//	                     - cygnus   192.0.2.64/26  one host infected
//	         203.0.113.66 is where a copy reports that it arrived
type whole struct {
	*lab
	dragnet string
	roster  string
	signer  string
	book    strings.Builder
	members []*member
}

// member is an organisation beside the one with the trap.
type member struct {
	name    string
	gateway *netlab.Node
	network netip.Prefix
	outside netip.Addr
	node    *netlab.Process
	sensor  *netlab.Process
}

var (
	attackerAddr = netip.MustParseAddr("203.0.113.2")
	codeServer   = netip.MustParseAddrPort("203.0.113.66:4444")
)

func newWhole(t testing.TB) *whole {
	w := &whole{lab: newLab(t)}
	w.dragnet = filepath.Join(w.dir, "dragnet")
	if out, err := exec.Command("go", "build", "-o", w.dragnet, "../../cmd/dragnet").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := errors.Join(w.attacker.Forward(), w.attacker.Address("eth0", netip.PrefixFrom(codeServer.Addr(), 32))); err != nil {
		t.Fatal(err)
	}
	w.signer = w.key("clearing")
	w.roster = filepath.Join(w.dir, "roster.bin")
	w.must(w.router, "roster", "sign", w.file("members.yaml", fmt.Sprintf("members:\n  - name: aurora\n    class: org:aurora\n    roles: [ask]\n    keys:\n"+
		"      - {public: %q, from: 2026-01-01T00:00:00Z, until: 2126-01-01T00:00:00Z}\n", w.key("aurora"))), "--key", w.path("clearing.key"), "--roster", w.roster)
	w.book.WriteString("witnesses:\n")
	for n, name := range []string{"borealis", "cygnus"} {
		w.members = append(w.members, w.join(name, n))
	}
	return w
}

func (w *whole) path(name string) string { return filepath.Join(w.dir, name) }

func (w *whole) file(name, text string) string {
	w.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(w.path(name)), 0o755), os.WriteFile(w.path(name), []byte(text), 0o600)); err != nil {
		w.Fatal(err)
	}
	return w.path(name)
}

func (w *whole) must(at *netlab.Node, args ...string) string {
	w.Helper()
	cmd := at.Command(w.Context(), w.dragnet, args...)
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		w.Fatalf("dragnet %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// key makes a key and returns its public half.
func (w *whole) key(name string) string {
	w.Helper()
	return strings.TrimSpace(w.must(w.router, "roster", "key", w.path(name+".key")))
}

// join adds an organisation: a gateway and its networks.
func (w *whole) join(name string, n int) *member {
	w.Helper()
	nodes, err := w.net.Nodes(name)
	if err != nil {
		w.Fatal(err)
	}
	m := &member{name: name, gateway: nodes[0], outside: netip.AddrFrom4([4]byte{198, 18, byte(n + 1), 1})}
	m.network = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(64 * n)}), 26)
	internet, dev := netip.AddrFrom4([4]byte{198, 18, byte(n + 1), 2}), "to-"+name
	if err := errors.Join(
		w.net.Wire(w.attacker, dev, m.gateway, "eth0"), w.attacker.Address(dev, netip.PrefixFrom(internet, 24)), m.gateway.Address("eth0", netip.PrefixFrom(m.outside, 24)),
		w.attacker.Route(m.network, m.outside), m.gateway.Route(netip.MustParsePrefix("0.0.0.0/0"), internet), m.gateway.Forward(),
	); err != nil {
		w.Fatal(err)
	}
	fmt.Fprintf(&w.book, "  - {name: %[1]s, key: %[2]q, url: \"https://%[3]s:8443\", organisation: %[1]s, networks: [%[4]s]}\n", name, w.key(name), m.outside, m.network)
	return m
}

// addHost adds a host of an organisation with the last byte of its address, behind
// a separate link.
func (w *whole) addHost(m *member, last byte) *netlab.Node {
	w.Helper()
	nodes, err := w.net.Nodes(fmt.Sprintf("%s-%d", m.name, last))
	if err != nil {
		w.Fatal(err)
	}
	base := m.network.Addr().As4()
	addr := netip.AddrFrom4([4]byte{base[0], base[1], base[2], base[3] + last})
	gateway, dev := netip.AddrFrom4([4]byte{10, 0, base[3], last}), fmt.Sprintf("h%d", last)
	if err := errors.Join(
		w.net.Wire(nodes[0], "eth0", m.gateway, dev), nodes[0].Address("eth0", netip.PrefixFrom(addr, 32)),
		m.gateway.Address(dev, netip.PrefixFrom(gateway, 32)), m.gateway.RouteOn(netip.PrefixFrom(addr, 32), dev),
		nodes[0].RouteOn(netip.PrefixFrom(gateway, 32), "eth0"), nodes[0].Route(netip.MustParsePrefix("0.0.0.0/0"), gateway),
	); err != nil {
		w.Fatal(err)
	}
	return nodes[0]
}

// start starts an organisation's node and a sensor at its gateway.
func (w *whole) start(m *member, node, sensor string) {
	w.Helper()
	data := w.path(m.name + "/data")
	conf := w.file(m.name+"/node.yaml", fmt.Sprintf(`site: {name: %s, networks: [%s]}
store: {directory: %s}
admin: {listen: ""}
api: {listen: 127.0.0.1:9121}
witness:
  listen: %s:8443
  key: %s
  roster: {file: %s, signer: %q}
  policy: {floor: 1, too_common: 0, independent: 1}   # the lab's traffic is so little that keys have 3 bits
%s
`, m.name, m.network, data, m.outside, w.path(m.name+".key"), w.roster, w.signer, node))
	var err error
	if m.node, err = m.gateway.Start(w.dragnet, "run", "node", "--config", conf); err == nil {
		err = m.node.Await(w.Context(), "node started")
	}
	if err != nil {
		w.Fatal(err)
	}
	w.enrol(m.gateway, data, "sensor", w.path(m.name+"/enrolled"))
	conf = w.file(m.name+"/sensor.yaml", fmt.Sprintf("live: {interface: eth0}\nevery: 200ms\nchannel: {state: %s}\n%s\n", w.path(m.name+"/enrolled"), sensor))
	if m.sensor, err = m.gateway.Start(w.agent, "run", "sensor", "--config", conf); err == nil {
		err = m.sensor.Await(w.Context(), "sensor started")
	}
	if err != nil {
		w.Fatal(err)
	}
}

// enrol enrols an agent at the node of its machine.
func (w *whole) enrol(at *netlab.Node, data, role, state string) {
	w.Helper()
	token := regexp.MustCompile(`dragnet1-[\w-]{64}`).FindString(w.must(at, "agent", "token", "--data", data, "--name", role+"-1", "--role", role))
	if out, err := at.Run(w.Context(), w.agent, "enrol", role, "https://127.0.0.1:9121", token, "--state", state); err != nil {
		w.Fatal(err, out)
	}
}

// sealingKeys writes an Ed25519 key pair as openssl does.
func (w *whole) sealingKeys() (private, public string) {
	w.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.Fatal(err)
	}
	one, err := x509.MarshalPKCS8PrivateKey(key)
	two, err2 := x509.MarshalPKIXPublicKey(pub)
	if err := errors.Join(err, err2); err != nil {
		w.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		return w.file(name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return write("seal.pem", "PRIVATE KEY", one), write("seal.pub", "PUBLIC KEY", two)
}

// infect sends a variant from the attacker's address to a host, or an ordinary
// request.
func (w *whole) infect(to string, payload []byte) {
	w.Helper()
	var c net.Conn
	err := w.attacker.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(attackerAddr, 0)), Timeout: 5 * time.Second}
		c, err = d.Dial("tcp4", to)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(payload); err != nil {
		w.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	_, _ = io.Copy(io.Discard, c)
}

func (w *whole) variant(n uint64) []byte {
	w.Helper()
	m, err := Message("alder", 7, n)
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// eventually waits until check is true, for what is not in our hands.
func (w *whole) eventually(what string, check func() bool) {
	w.Helper()
	for range 300 {
		if check() {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, m := range w.members {
		w.Logf("%s:\n%s\n%s", m.name, m.node.Output(), m.sensor.Output())
	}
	w.Fatalf("not within a minute: %s\n%s", what, w.process.Output())
}

// findings are those of a node about a host, as kind and identifier.
func (w *whole) findings(at *netlab.Node, data, host string) map[string]string {
	w.Helper()
	rows, err := csv.NewReader(strings.NewReader(w.must(at, "finding", "list", "--data", data, "--host", host, "-o", "csv"))).ReadAll()
	if err != nil {
		w.Fatal(err)
	}
	found := map[string]string{}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.HasPrefix(cell, "honeypot-") || strings.HasPrefix(cell, "payload-") {
				found[cell] = row[0]
			}
		}
	}
	return found
}

// TestFromTrapToGroup is the whole of it: an attacker scans and meets an unused
// address, the honeypot behind it is infected and spreads, the array records it,
// the centre makes a signature, another organisation's sensor that has never seen
// the payload recognises the next variant on the wire, the question made of the
// finding names the other infected hosts at two witnesses, and no packet of the
// honeypot left.
func TestFromTrapToGroup(t *testing.T) {
	testkit.Long(t)
	w := newWhole(t)
	ln := w.listen(w.attacker, "tcp4", codeServer.String())
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	private, public := w.sealingKeys()
	for i := range uint64(30) {
		w.file(fmt.Sprintf("clean/%d", i), string(cleanRequest(i)))
	}
	borealis, cygnus := w.members[0], w.members[1]
	w.start(borealis, fmt.Sprintf("centre: {clean: [%s], shared: [%s], trust: [%s]}", w.path("clean"), w.path("shared"), public), "payload: {match: true}")
	w.start(cygnus, "", "")
	infected := &Inert{Family: "alder", Seed: 7, Server: codeServer}
	for _, host := range []*netlab.Node{w.addHost(borealis, 10), w.addHost(cygnus, 10)} {
		w.serveInert(host, infected)
	}
	bystander, visitor := w.addHost(borealis, 11), w.addHost(borealis, 12)
	w.serveInert(bystander, &Inert{}) // contacted by the attacker as well, and not infected

	// The organisation with the trap.
	node := w.file("node.yaml", fmt.Sprintf("site: {name: aurora, networks: [192.0.2.192/26]}\nstore: {directory: %[1]s/data}\nadmin: {listen: \"\"}\napi: {listen: 127.0.0.1:9121}\ncentre: {clean: [%[1]s/clean]}\n", w.dir))
	p, err := w.router.Start(w.dragnet, "run", "node", "--config", node)
	if err == nil {
		err = p.Await(t.Context(), "node started")
	}
	if err != nil {
		t.Fatal(err)
	}
	data := w.path("data")
	w.enrol(w.router, data, "trap", w.path("enrolled"))
	w.startTrap("report: true", "channel: {state: "+w.path("enrolled")+"}")
	const copies = 15
	inert := &Inert{Family: "alder", Copies: copies, Port: 80, Targets: netip.MustParsePrefix("198.51.100.0/24"), Seed: 7, Server: codeServer}
	w.serveInert(w.honeypot, inert)
	leaks := w.watchOutside(func(p *packet.Packet) bool { // what witnesses answer comes in
		return fromUnused(p) || p.Dst.String() == "203.0.113.1" && slices.ContainsFunc(w.members, func(m *member) bool { return m.outside == p.Src })
	})

	// The attack, and what the trap's organisation makes of it.
	for _, last := range []int{193, 199, 200} {
		w.infect(fmt.Sprintf("192.0.2.%d:80", last), cleanRequest(uint64(last)))
	}
	w.infect("192.0.2.200:80", w.variant(1))
	w.eventually("a signature of all copies", func() bool {
		return strings.Contains(w.must(w.router, "signature", "centre", "--data", data, "-o", "csv"), fmt.Sprintf(",gibbs,%d,", copies))
	})
	w.must(w.router, "signature", "centre", "--data", data, "--write", w.path("shared"), "--sign", private)

	// Another organisation takes it; its sensor has never seen the payload.
	files, err := filepath.Glob(w.path("shared/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	w.eventually("the sensor has all signatures", func() bool {
		return strings.Contains(borealis.sensor.Output(), fmt.Sprintf(`in use","component":"sensor","signatures":%d,`, len(files)))
	})
	before := w.findings(borealis.gateway, w.path("borealis/data"), attackerAddr.String())
	w.infect("192.0.2.10:80", w.variant(1<<41))
	w.infect("192.0.2.74:80", w.variant(1<<41+1))
	w.infect("192.0.2.11:80", cleanRequest(7))
	if c, err := w.dial(visitor, "tcp4", codeServer.String()); err != nil { // contacts the server, and was not attacked
		t.Fatal(err)
	} else {
		c.Close()
	}
	w.eventually("the variant is recognised on the wire", func() bool {
		return w.findings(borealis.gateway, w.path("borealis/data"), attackerAddr.String())["payload-match"] != ""
	})
	if len(before) > 0 {
		t.Errorf("recognised before it came: %v", before)
	}
	if other := w.findings(borealis.gateway, w.path("borealis/data"), "192.0.2.11"); len(other) > 0 {
		t.Errorf("findings about a bystander: %v", other)
	}

	// The question that the finding makes.
	id := w.findings(w.router, data, attackerAddr.String())["honeypot-attack"]
	book := w.file("book.yaml", w.book.String())
	ask := func() (hosts []string, shown string) {
		var all struct {
			Hosts []struct {
				Host      string   `json:"host"`
				Witnesses []string `json:"witnesses"`
			} `json:"hosts"`
		}
		cmd := w.router.Command(t.Context(), w.dragnet, "question", "ask", "--finding", id, "--yes", "--data", data, "--book", book,
			"--key", w.path("aurora.key"), "--state", w.path("questions.db"), "--all", "--bits", "3", "--force", "-o", "json")
		var problem strings.Builder
		cmd.Stderr = &problem
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &all)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, problem.String())
		}
		for _, h := range all.Hosts {
			hosts = append(hosts, h.Host+" "+strings.Join(h.Witnesses, ","))
		}
		slices.Sort(hosts)
		return hosts, problem.String()
	}
	want := []string{"192.0.2.10 borealis", "192.0.2.74 cygnus"}
	var hosts []string
	var shown string
	w.eventually("two witnesses answer", func() bool { hosts, shown = ask(); return len(hosts) >= len(want) })
	if !slices.Equal(hosts, want) {
		t.Errorf("the group is %v, want %v\n%s", hosts, want, shown)
	}
	if pattern := "pattern: in src=203.0.113.2 proto=tcp dport=80 then out dst=203.0.113.66 proto=tcp dport=4444\n"; !strings.Contains(shown, pattern) {
		t.Errorf("want %s, got\n%s", pattern, shown)
	}
	if decided := w.must(borealis.gateway, "decision", "list", "--data", w.path("borealis/data"), "-o", "json"); !strings.Contains(decided, `"items": []`) {
		t.Errorf("a match alone has made a decision: %s", decided)
	}
	if leaked := leaks(); len(leaked) > 0 {
		t.Errorf("%d packets left: %v", len(leaked), leaked[:min(5, len(leaked))])
	}
}
