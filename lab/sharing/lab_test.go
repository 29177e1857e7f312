// Package sharing_test runs a community of organisations, each in a network
// separate namespace with the node it would run, and asks them what the
// demo's incident was.
package sharing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/lab/incident"
)

// program is the binary, made by TestMain.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sharing-lab-")
	if err == nil && os.Geteuid() == 0 {
		program = filepath.Join(dir, "dragnet")
		out, failed := exec.Command("go", "build", "-o", program, "dragnet/cmd/dragnet").CombinedOutput()
		if err = failed; err != nil {
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

// community is an exchange (a switch between all), the organisations, the
// clearinghouse and a detective.
type community struct {
	*testing.T
	lab    *netlab.Lab
	dir    string
	truth  incident.Truth
	nodes  map[string]*netlab.Node
	ports  []string
	signer string
	book   strings.Builder

	running []*running
}

// running is a node that can be started again.
type running struct {
	name, conf string
	process    *netlab.Process
	signs      []string // what it prints when it is ready
}

const within = time.Minute

func newCommunity(t *testing.T) *community {
	t.Helper()
	testkit.Long(t)
	testkit.Tool(t, "dumpcap")
	truth, err := incident.ReadTruth(incident.Captures())
	if err != nil {
		t.Fatal(err)
	}
	c := &community{T: t, lab: netlab.For(t), dir: t.TempDir(), truth: truth, nodes: map[string]*netlab.Node{}}
	nodes, err := c.lab.Nodes("exchange", "clearing", "detective", "aurora", "borealis", "cygnus", "draco", "liar")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		c.nodes[n.Name] = n
		if i == 0 {
			continue
		}
		port := fmt.Sprintf("p%d", i)
		c.ports = append(c.ports, port)
		address := netip.PrefixFrom(c.address(n.Name), 24)
		if err := errors.Join(c.lab.Wire(n, "eth0", nodes[0], port), n.Address("eth0", address)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes[0].Bridge("br0", c.ports...); err != nil {
		t.Fatal(err)
	}
	return c
}

// address is the node's on the exchange; none of the incident's is like it.
func (c *community) address(name string) netip.Addr {
	at := map[string]byte{"clearing": 2, "detective": 3, "aurora": 11, "borealis": 12, "cygnus": 13, "draco": 14, "liar": 15}
	return netip.AddrFrom4([4]byte{10, 99, 0, at[name]})
}

// run runs the program in a node to its end and returns its standard output.
func (c *community) run(node string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.Context(), within)
	defer cancel()
	cmd := c.nodes[node].Command(ctx, program, args...)
	var out, problem strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: dragnet %s: %w\n%s", node, strings.Join(args, " "), err, problem.String())
	}
	return out.String(), nil
}

func (c *community) must(node string, args ...string) string {
	c.Helper()
	out, err := c.run(node, args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// write puts a file into the community's directory.
func (c *community) write(name, text string) string {
	c.Helper()
	path := filepath.Join(c.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		c.Fatal(err)
	}
	return path
}

// key makes an organisation's key and returns its public half.
func (c *community) key(name string) string {
	c.Helper()
	return strings.TrimSpace(c.must("exchange", "roster", "key", c.keyFile(name)))
}

func (c *community) keyFile(name string) string { return filepath.Join(c.dir, name, "identity.key") }

func (c *community) rosterFile() string { return filepath.Join(c.dir, "roster.bin") }

// detectives are two organisations; both ask from the detective's machine.
var detectives = []string{"honeyfarm", "watch"}

// sign signs the roster's next version; revoked is out.
func (c *community) sign(revoked string) {
	c.Helper()
	c.signer = c.key("clearing")
	var members strings.Builder
	members.WriteString("members:\n")
	for i, d := range detectives {
		since := ""
		if d == revoked {
			since = ", revoked: 2026-01-02T00:00:00Z"
		}
		fmt.Fprintf(&members, "  - name: %s\n    class: org:%s\n    roles: [ask, report]\n    as: [%d]\n    keys:\n"+
			"      - {public: %q, from: 2026-01-01T00:00:00Z, until: 2126-01-01T00:00:00Z%s}\n", d, d, 64500+i, c.key(d), since)
	}
	c.must("clearing", "roster", "sign", c.write("members.yaml", members.String()), "--key", c.keyFile("clearing"), "--roster", c.rosterFile())
}

// startClearinghouse starts the clearinghouse with its relay.
func (c *community) startClearinghouse() {
	c.Helper()
	conf := c.write("clearing/clearinghouse.yaml", fmt.Sprintf(`server:
  directory: %s
  roster: %s
  listen: %s
admin: {listen: ""}
clearinghouse: {floor: 2, witnesses: 1, batch: 1s}
relay: {serve: true}
`, filepath.Join(c.dir, "clearing"), c.rosterFile(), c.url("clearing")[len("https://"):]))
	p, err := c.nodes["clearing"].Start(program, "run", "clearinghouse", "--config", conf)
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), within)
	defer cancel()
	if err := p.Await(ctx, `"msg":"clearinghouse started"`); err != nil {
		c.Fatal(err)
	}
	fmt.Fprintf(&c.book, "relays:\n  - {name: clearing, url: %[1]q, key: %[2]q}\nclearinghouse: {name: clearing, url: %[1]q, key: %[2]q}\nwitnesses:\n",
		c.url("clearing"), c.signer)
}

func (c *community) url(name string) string { return fmt.Sprintf("https://%s:8443", c.address(name)) }

// node starts an organisation's node over a log, and enters it into the book.
func (c *community) node(name string, networks []netip.Prefix, log, reached string) *running {
	c.Helper()
	var list []string
	for _, n := range networks {
		list = append(list, n.String())
	}
	dir := filepath.Join(c.dir, name)
	conf := c.write(name+"/node.yaml", fmt.Sprintf(`site:
  name: %s
  networks: [%s]
store: {directory: %s}
follow: {logs: [%s]}
admin: {listen: ""}
witness:
%s  key: %s
  roster: {signer: %q}
  clearinghouse: {url: %q, key: %q}
  policy:
    floor: 1         # the incident's logs are so small that keys have 3 bits
    too_common: 0
    independent: 1
`, name, strings.Join(list, ", "), filepath.Join(dir, "store"), log, reached, c.keyFile(name), c.signer, c.url("clearing"), c.signer))
	fmt.Fprintf(&c.book, "  - name: %s\n    key: %s\n    organisation: %s\n    networks: [%s]\n", name, c.key(name), name, strings.Join(list, ", "))
	r := &running{name: name, conf: conf, signs: []string{`"msg":"witness started"`, `"msg":"file imported"`, `"msg":"epochs published"`}}
	c.running = append(c.running, r)
	c.start(r)
	return r
}

func (c *community) start(r *running) {
	c.Helper()
	p, err := c.nodes[r.name].Start(program, "run", "node", "--config", r.conf)
	if err != nil {
		c.Fatal(err)
	}
	r.process = p
	c.await(r)
}

func (c *community) await(r *running) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), within)
	defer cancel()
	for _, sign := range r.signs {
		if err := r.process.Await(ctx, sign); err != nil {
			c.Fatal(err)
		}
	}
}

// restart ends a node and starts it again: it has its logs and epochs already.
func (c *community) restart(r *running) {
	c.Helper()
	if err := r.process.Stop(); err != nil {
		c.Fatal(err)
	}
	r.signs = slices.DeleteFunc(r.signs, func(s string) bool { return strings.Contains(s, "imported") || strings.Contains(s, "epochs") })
	r.signs = append(r.signs, `"msg":"roster accepted"`)
	c.start(r)
}

// direct lets others ask a node at its address, and says so in the book, whose
// last entry must be the node's.
func (c *community) direct(name string, networks []netip.Prefix, log string) {
	c.Helper()
	c.node(name, networks, log, fmt.Sprintf("  listen: %s\n", c.url(name)[len("https://"):]))
	fmt.Fprintf(&c.book, "    url: %s\n", c.url(name))
}

// relayed has a node look for questions at the clearinghouse.
func (c *community) relayed(name string, networks []netip.Prefix, log string) {
	c.Helper()
	r := c.node(name, networks, log, fmt.Sprintf("  relays: [{url: %q, key: %q}]\n", c.url("clearing"), c.signer))
	r.signs = append(r.signs, `"msg":"polling relay for questions"`)
	c.await(r)
}

// inquiryResult is what an inquiry's JSON says about hosts.
type inquiryResult struct {
	Hosts []struct {
		Host      string   `json:"host"`
		Witnesses []string `json:"witnesses"`
	} `json:"hosts"`
	Witnesses []struct {
		Name   string `json:"name"`
		Opened int    `json:"opened"`
	} `json:"witnesses"`
}

// ask has a detective ask all witnesses about the incident.
func (c *community) ask(book string, more ...string) (hosts []string, all inquiryResult) {
	c.Helper()
	out := c.question(book, detectives[0], more...)
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		c.Fatal(err)
	}
	for _, h := range all.Hosts {
		hosts = append(hosts, h.Host+" "+strings.Join(h.Witnesses, ","))
	}
	return hosts, all
}

func (c *community) question(book, who string, more ...string) string {
	c.Helper()
	return c.must("detective", append([]string{
		"question", "ask", c.truth.Pattern(), "--book", book, "--key", c.keyFile(who), "--state", c.state(who),
		"--all", "--bits", "3", "--force", "-o", "json",
	}, more...)...)
}

// state is a detective's record.
func (c *community) state(who string) string { return filepath.Join(c.dir, who, "questions.db") }

// infected is the truth in the same words, in order.
func (c *community) infected() (hosts []string) {
	for _, o := range c.truth.Organisations {
		for _, h := range o.Infected {
			hosts = append(hosts, h.String()+" "+o.Name)
		}
	}
	return hosts
}
