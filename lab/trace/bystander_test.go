package trace_test

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestBystandersAreNotNamed has two hosts that pass nothing on: one only opened
// TCP to the port of a server on which another host is logged in, one uses a
// service that writes into the same log.
func TestBystandersAreNotNamed(t *testing.T) {
	l := newLab(t, "h1", "h2", "h3", "h4")
	me := l.investigator()
	h1, h2, h3, h4 := l.hosts[0], l.hosts[1], l.hosts[2], l.hosts[3]
	for _, h := range l.hosts {
		h.daemon(me)
	}
	h1.sshd()
	log := filepath.Join(l.dir, "log")
	h1.start(fmt.Sprintf("mkfifo %[1]s; exec cat %[1]s > %[1]s.txt", log))
	h1.until("the log is there", "ls "+log)
	h1.start("exec socat TCP-LISTEN:7001 SYSTEM:cat 2> " + log)
	h1.await(7001)
	port := l.attacked(9000, func() {
		h2.start(fmt.Sprintf("exec %s 10.0.0.1 'exec nc %s 9000 2> %s'", l.ssh(), victimAddr, log))
		h3.start("exec nc 10.0.0.1 22")
		// One that begins the protocol has a second process on the server.
		h3.start("{ printf 'SSH-2.0-OpenSSH_9.2\\r\\n'; sleep 60; } | nc 10.0.0.1 22")
		h4.start("exec nc 10.0.0.1 7001")
	})
	h1.until("the other connections are open", "ss -tnH state established src 10.0.0.1 dst 10.0.0.3 | grep . && ss -tnH state established src 10.0.0.1 dst 10.0.0.4")
	casePath := filepath.Join(l.dir, "case.json")
	text, err := l.trace("start", "10.0.0.1", fmt.Sprintf("%d,9000", port), "--case", casePath, "--call")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", text)
	if got, want := outline(l.judged(casePath).Root, 0), "10.0.0.1 proven\n 10.0.0.2 proven"; got != want {
		t.Errorf("the chain is\n%s\nwant\n%s", got, want)
	}
}
