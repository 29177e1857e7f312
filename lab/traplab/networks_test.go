package traplab

import (
	"io"
	"net"
	"testing"
	"time"

	"dragnet/internal/netlab"
)

// say serves a word at an address of a node.
func (l *lab) say(n *netlab.Node, address, word string) {
	l.serve(n, address, func(c net.Conn) {
		defer c.Close()
		io.WriteString(c, word)
	})
}

// hears is the word that the attacker reads at an address.
func (l *lab) hears(address string) string {
	l.Helper()
	c, err := l.dial(l.attacker, tcpOf(address), address)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// echoDatagram sends the attacker's datagram and reads what comes back.
func (l *lab) echoDatagram(address string) string {
	l.Helper()
	c, err := l.dial(l.attacker, "udp4", address)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	b := make([]byte, 100)
	if _, err := c.Write([]byte("a datagram of some length")); err != nil {
		return err.Error()
	}
	n, err := c.Read(b)
	if err != nil {
		return "nothing"
	}
	return string(b[:n])
}

// answerDatagrams answers each datagram with a word.
func (l *lab) answerDatagrams(n *netlab.Node, address, word string) {
	l.Helper()
	var p net.PacketConn
	if err := n.Do(func() (err error) { p, err = net.ListenPacket("udp4", address); return err }); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo([]byte(word), from)
		}
	}()
}

// TestGateOfNetworks: everything but public servers is brought to honeypots; what is
// public, what hosts open themselves and what was open before goes on.
func TestGateOfNetworks(t *testing.T) {
	l := newLab(t)
	const (
		web, ssh, noHost, router = "10.77.0.2:80", "10.77.0.2:22", "10.77.0.3:80", "10.77.0.1:22"
	)
	l.say(l.server, web, "public")
	l.say(l.server, ssh, "private")
	l.say(l.router, router, "router")
	for _, port := range []string{":22", ":80"} {
		l.say(l.honeypot, "10.66.0.2"+port, "honeypot")
	}
	l.answerDatagrams(l.server, "10.77.0.2:5000", "private")
	l.answerDatagrams(l.server, "10.77.0.2:161", "private")
	l.answerDatagrams(l.honeypot, "10.66.0.2:161", "honeypot")
	if got := l.hears(ssh); got != "private" {
		t.Fatalf("without a trap: %q", got)
	}
	// The server opens a connection to the outside, before the rules are there.
	ln := l.listen(l.attacker, "tcp4", "203.0.113.2:7000")
	open, err := l.dial(l.server, "tcp4", "203.0.113.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	outside, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()

	l.redirect = `  honeypots: [{address: 10.66.0.2, tcp: [22, 80], udp: [161]}]
  networks: [10.77.0.0/24]
  public: [{address: 10.77.0.2, tcp: [80]}]`
	l.startTrap()
	for address, want := range map[string]string{web: "public", ssh: "honeypot", noHost: "honeypot", router: "router", unused.Addr().Next().String() + ":80": "honeypot"} {
		if got := l.hears(address); got != want {
			t.Errorf("%s says %q, want %q", address, got, want)
		}
	}
	for address, want := range map[string]string{"10.77.0.2:161": "honeypot", "10.77.0.2:5000": "private"} {
		if got := l.echoDatagram(address); got != want {
			t.Errorf("udp %s says %q, want %q", address, got, want)
		}
	}
	for i := range 3 { // the outside speaks first
		if _, err := outside.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		open.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.ReadFull(open, b); err != nil || b[0] != byte(i) {
			t.Fatalf("an open connection is cut: %v, %v", b, err)
		}
	}
	another, err := l.dial(l.server, "tcp4", "203.0.113.2:7000")
	if err != nil {
		t.Fatalf("the server opens no connection any more: %v", err)
	}
	another.Close()
}
