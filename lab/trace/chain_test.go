package trace_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/trace/chain"
	"dragnet/trace/record"
	"dragnet/trace/token"
)

// investigator makes the key that hosts list.
func (l *lab) investigator() string {
	l.t.Helper()
	key, err := token.LoadKey(filepath.Join(l.dir, "investigator.key"))
	if err != nil {
		l.t.Fatal(err)
	}
	return token.FormatKey(key.Public().(ed25519.PublicKey))
}

// attacked listens on the victim and returns the attacker's port of the first
// connection.
func (l *lab) attacked(port int, attack func()) (attackerPort uint16) {
	l.t.Helper()
	c, attackerPort := l.acceptAttack(port, attack)
	l.t.Cleanup(func() { c.Close() })
	return attackerPort
}

// acceptAttack listens on the victim until the first connection.
func (l *lab) acceptAttack(port int, attack func()) (c net.Conn, attackerPort uint16) {
	l.t.Helper()
	var listener net.Listener
	err := l.victim.Do(func() (err error) {
		listener, err = net.Listen("tcp4", net.JoinHostPort(victimAddr, fmt.Sprint(port)))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { listener.Close() })
	attack()
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	if c, err = listener.Accept(); err != nil {
		l.t.Fatalf("the attack never arrived: %v", err)
	}
	return c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Port()
}

// TestChainOfFiveHosts goes from h6, which only runs oidentd, through a netcat
// pipe on h1, socat and ssh on h2, ssh on h3, an SSH jump on h4 and a session
// on h5, to the victim.
func TestChainOfFiveHosts(t *testing.T) {
	l := newLab(t, "h1", "h2", "h3", "h4", "h5", "h6")
	me := l.investigator()
	h := l.hosts
	for _, x := range h[:5] {
		x.daemon(me)
	}
	h[5].start("exec oidentd -i -S")
	h[5].await(113)
	for _, x := range h[2:5] {
		x.sshd()
	}
	port := l.attacked(9000, func() {
		last := "nc " + victimAddr + " 9000"
		jump := fmt.Sprintf("%s -o ProxyCommand='%s -W %%h:%%p 10.0.0.4' 10.0.0.5 %s", l.ssh(), l.ssh(), last)
		script := filepath.Join(l.dir, "jump.sh")
		if err := os.WriteFile(script, []byte("exec "+jump+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		h[1].start(fmt.Sprintf("exec socat TCP-LISTEN:7002 EXEC:'%s 10.0.0.3 sh %s'", l.ssh(), script))
		h[1].await(7002)
		h[0].start("nc -l 7001 | nc 10.0.0.2 7002")
		h[0].await(7001)
		h[5].start("exec nc 10.0.0.1 7001")
	})
	pair := fmt.Sprintf("%d,9000", port)
	keys := []string{}
	for _, x := range h[:5] {
		keys = append(keys, "--host-key", fmt.Sprintf("%v=%s", x.addr, x.key()))
	}
	whole := `10.0.0.5 proven
 10.0.0.4 proven
  10.0.0.3 proven
   10.0.0.2 proven
    10.0.0.1 proven
     10.0.0.6 answers plain ident: root`

	casePath := filepath.Join(l.dir, "whole.json")
	text, err := l.trace(append([]string{"start", "10.0.0.5", pair, "--case", casePath, "--call", "--reason", "test"}, keys...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", text)
	g := l.judged(casePath)
	if got := outline(g.Root, 0); got != whole {
		t.Errorf("the chain is\n%s\nwant\n%s", got, whole)
	}
	for n, said := g.Root, "us"; n.Status == chain.Proven; n, said = n.Previous[0], n.Host.String() {
		if !n.Agrees || !n.KeyConfirmed || n.Said != said || n.Record.Host == nil || n.Name != n.Record.Host.Name {
			t.Errorf("%v: agrees %v, key confirmed %v, said by %s, name %s", n.Host, n.Agrees, n.KeyConfirmed, n.Said, n.Name)
		}
	}
	if len(g.Problems) > 0 {
		t.Errorf("problems: %v", g.Problems)
	}
	l.checkSVG(casePath)

	t.Run("killed daemon", func(t *testing.T) {
		h[2].kill()
		path := filepath.Join(l.dir, "killed.json")
		if _, err := l.trace("start", "10.0.0.5", pair, "--case", path, "--call"); err != nil {
			t.Fatal(err)
		}
		want := "10.0.0.5 proven\n 10.0.0.4 proven\n  10.0.0.3 no identity: connection refused"
		if got := outline(l.judged(path).Root, 0); got != want {
			t.Errorf("the chain is\n%s\nwant\n%s", got, want)
		}
		// The tokens given before the kill are still evidence, once its
		// administrator redeems by mail.
		if got := outline(l.judged(casePath).Root, 0); got != whole {
			t.Errorf("the older case is\n%s", got)
		}
	})

	t.Run("changed record", func(t *testing.T) {
		l.changeRecord(t, h[3], casePath)
	})
}

// changeRecord edits the record of the first case on h4's disk, redeems it by
// hand and shows a copy of the case with that redemption.
func (l *lab) changeRecord(t *testing.T, h *host, casePath string) {
	node := l.judged(casePath).Root.Previous[0]
	if node.Host != h.addr {
		t.Fatalf("%v is not %v", node.Host, h.addr)
	}
	e, err := token.Get(filepath.Join(h.state, "records"), node.Token)
	if err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(h.state, "records", "*.stop"))
	changed := false
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The salt is right before the record; change the record's middle.
		if at := strings.Index(string(b), string(e.Salt[:])); at >= 0 && !changed {
			b[at+token.Size+200] ^= 0x20
			changed = os.WriteFile(name, b, 0o600) == nil
		}
	}
	if !changed {
		t.Fatal("the record was not found on disk")
	}
	redemption := filepath.Join(l.dir, "h4.redemption")
	out, err := h.run(fmt.Sprintf("%s token redeem %s --config %s.yaml --out %s", l.agent, node.Token, h.state, redemption))
	if err == nil || !strings.Contains(out, "changed after its token was given") {
		t.Errorf("redeem says %q, %v", out, err)
	}
	out, err = h.run(fmt.Sprintf("%s token verify --config %s.yaml", l.agent, h.state))
	if err == nil || !strings.Contains(out, node.Token) {
		t.Errorf("verify says %q, %v", out, err)
	}
	// An investigator without an earlier redemption sees that the evidence ends here.
	c, err := chain.Load(casePath)
	if err != nil {
		t.Fatal(err)
	}
	c.Redemptions = slices.DeleteFunc(c.Redemptions, func(old token.SignedRedemption) bool {
		r, err := old.Open()
		return err != nil || r.Token == node.Token
	})
	late := filepath.Join(l.dir, "late.json")
	if err := c.Save(late); err != nil {
		t.Fatal(err)
	}
	g := l.judged(late, "--redemption", redemption)
	want := "10.0.0.5 proven\n 10.0.0.4 altered"
	if got := outline(g.Root, 0); got != want || len(g.Problems) == 0 {
		t.Errorf("the chain is\n%s\nwant\n%s\nproblems %v", got, want, g.Problems)
	}
	if out, err := l.trace("show", late); err == nil {
		t.Errorf("trace show found nothing:\n%s", out)
	}
	// One who has it keeps the proof, and learns of the change.
	before := outline(l.judged(casePath).Root, 0)
	g = l.judged(casePath, "--redemption", redemption)
	if got := outline(g.Root, 0); got != before || len(g.Problems) != 1 {
		t.Errorf("the chain is\n%s\nwant\n%s\nproblems %v", got, before, g.Problems)
	}
}

func (l *lab) checkSVG(casePath string) {
	l.t.Helper()
	svg, err := l.trace("show", casePath, "-o", "svg")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, want := range []string{"<svg", "10.0.0.6: ANSWERS PLAIN IDENT", "&lt;pipe&gt;"} {
		if !strings.Contains(svg, want) {
			l.t.Errorf("the drawing lacks %q", want)
		}
	}
}

// TestCycleStops joins two hosts to a ring of pipes and asks one of them.
func TestCycleStops(t *testing.T) {
	l := newLab(t, "a", "b")
	me := l.investigator()
	a, b := l.hosts[0], l.hosts[1]
	a.daemon(me)
	b.daemon(me)
	fifo := filepath.Join(l.dir, "fifo")
	port := l.attacked(9000, func() {
		b.start("nc -l 7002 | { until nc 10.0.0.1 7001; do sleep 0.1; done; }")
		b.await(7002)
		a.start(fmt.Sprintf("mkfifo %s; nc -l 7001 | tee %s | nc 10.0.0.2 7002 & exec nc %s 9000 < %s", fifo, fifo, victimAddr, fifo))
	})
	b.until("the ring is closed", "ss -tnH state established dport = 7001")
	casePath := filepath.Join(l.dir, "case.json")
	text, err := l.trace("start", "10.0.0.1", fmt.Sprintf("%d,9000", port), "--case", casePath, "--call", "--session", "77")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", text)
	want := "10.0.0.1 proven\n 10.0.0.2 proven\n  10.0.0.1 proven\n   10.0.0.2 loop"
	if got := outline(l.judged(casePath).Root, 0); got != want {
		t.Errorf("the chain is\n%s\nwant\n%s", got, want)
	}
	// a met the same inbound connection twice, and asked b about it once.
	asked := 0
	err = token.Each(filepath.Join(b.state, "records"), func(e token.Entry) error {
		var r record.Record
		if json.Unmarshal(e.Record, &r) == nil && r.Session != nil && *r.Session == 77 && r.Asker == netip.MustParseAddr("10.0.0.1") {
			asked++
		}
		return nil
	})
	if err != nil || asked != 1 {
		t.Errorf("b was asked %d times, %v", asked, err)
	}
}
