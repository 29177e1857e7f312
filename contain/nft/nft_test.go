package nft

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"pgregory.net/rapid"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/netlab"
)

// street is a client and a server with a router between them.
type street struct {
	client, router, server *netlab.Node
	r                      *Router
}

const (
	client4, server4 = "10.1.0.2", "10.2.0.2"
	client6, server6 = "fd00:1::2", "fd00:2::2"
)

func newStreet(t *testing.T) *street {
	t.Helper()
	lab := netlab.For(t)
	nodes, err := lab.Nodes("client", "router", "server")
	if err != nil {
		t.Fatal(err)
	}
	s := &street{client: nodes[0], router: nodes[1], server: nodes[2]}
	all := func(text string) netip.Prefix { return netip.MustParsePrefix(text) }
	err = errors.Join(
		lab.Wire(s.client, "eth0", s.router, "left"), lab.Wire(s.router, "right", s.server, "eth0"),
		s.client.Address("eth0", all(client4+"/24")), s.client.Address("eth0", all(client6+"/64")),
		s.router.Address("left", all("10.1.0.1/24")), s.router.Address("left", all("fd00:1::1/64")),
		s.router.Address("right", all("10.2.0.1/24")), s.router.Address("right", all("fd00:2::1/64")),
		s.server.Address("eth0", all(server4+"/24")), s.server.Address("eth0", all(server6+"/64")),
		s.client.Route(all("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")), s.client.Route(all("::/0"), netip.MustParseAddr("fd00:1::1")),
		s.server.Route(all("0.0.0.0/0"), netip.MustParseAddr("10.2.0.1")), s.server.Route(all("::/0"), netip.MustParseAddr("fd00:2::1")),
		s.router.Forward(),
		s.router.Do(func() (err error) { s.r, err = Open("router"); return err }),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.r.Close() })
	s.echo(t, s.server)
	s.echo(t, s.client)
	return s
}

// echo answers on port 7 of a node, both families.
func (s *street) echo(t *testing.T, n *netlab.Node) {
	t.Helper()
	var l net.Listener
	if err := n.Do(func() (err error) { l, err = net.Listen("tcp", "[::]:7"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
}

func dial(t *testing.T, from *netlab.Node, to string) (net.Conn, error) {
	t.Helper()
	var c net.Conn
	err := from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", net.JoinHostPort(to, "7"), 700*time.Millisecond)
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func alive(c net.Conn) error {
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func now() flow.Time { return flow.FromTime(time.Now()) }

func blocking(target string, ttl time.Duration) dossier.Decision {
	return dossier.Decision{ID: "D-" + target, Target: netip.MustParsePrefix(target), Verdict: dossier.Active, Until: now() + flow.Time(ttl)}
}

func TestBlockedSourceOpensNothingButAccepts(t *testing.T) {
	s := newStreet(t)
	for _, family := range []struct{ client, server, target string }{{client4, server4, client4 + "/32"}, {client6, server6, "fd00:1::/64"}} {
		before, err := dial(t, s.client, family.server)
		if err != nil {
			t.Fatal(err)
		}
		receipts, err := s.r.Apply(now(), []dossier.Decision{blocking(family.target, time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		if len(receipts) != 1 || !receipts[0].Applied || !strings.Contains(receipts[0].Proof, "another") {
			t.Errorf("receipts %+v", receipts)
		}
		if _, err := dial(t, s.client, family.server); err == nil {
			t.Errorf("%s: a blocked source opened a connection", family.target)
		}
		if err := alive(before); err != nil {
			t.Errorf("%s: a connection from before the block died: %v", family.target, err)
		}
		if _, err := dial(t, s.server, family.client); err != nil {
			t.Errorf("%s: a blocked source must still accept connections: %v", family.target, err)
		}
		if _, err := s.r.Apply(now(), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := dial(t, s.client, family.server); err != nil {
			t.Errorf("%s: still blocked after the decision was taken back: %v", family.target, err)
		}
	}
}

// The kernel ends a block by itself.
func TestBlockExpiresWithoutUs(t *testing.T) {
	s := newStreet(t)
	if _, err := s.r.Apply(now(), []dossier.Decision{blocking(client4+"/32", 1500*time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s.client, server4); err == nil {
		t.Fatal("not blocked")
	}
	for range 30 {
		if _, err := dial(t, s.client, server4); err == nil {
			return
		}
	}
	t.Error("still blocked long after its end")
}

func TestOnlyActiveDecisionsAreApplied(t *testing.T) {
	s := newStreet(t)
	dry, everybody, over := blocking(client4+"/32", time.Minute), blocking("0.0.0.0/0", time.Minute), blocking(client4+"/32", -time.Second)
	dry.Verdict = dossier.DryRun
	receipts, err := s.r.Apply(now(), []dossier.Decision{dry, everybody, over})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range receipts {
		if r.Applied || r.Problem == "" {
			t.Errorf("%+v: must not be applied", r)
		}
	}
	if _, err := dial(t, s.client, server4); err != nil {
		t.Errorf("something is blocked: %v", err)
	}
}

func TestOtherTablesAreLeftAlone(t *testing.T) {
	s := newStreet(t)
	conn := s.r.conn
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "theirs"})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.r.Apply(now(), []dossier.Decision{blocking(client4+"/32", time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if err := s.r.Remove(); err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil || len(tables) != 1 || tables[0].Name != "theirs" {
		t.Errorf("tables %v, %v; want only the foreign one", tables, err)
	}
	if _, err := dial(t, s.client, server4); err != nil {
		t.Errorf("blocked after the table was removed: %v", err)
	}
	if err := s.r.Remove(); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}

// applyAll applies decisions, all of which must take effect.
func (s *street) applyAll(t *testing.T, decisions []dossier.Decision) {
	t.Helper()
	receipts, err := s.r.Apply(now(), decisions)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range receipts {
		if !r.Applied {
			t.Fatalf("%+v", r)
		}
	}
}

func TestOverlapsAndManyTargets(t *testing.T) {
	s := newStreet(t)
	decisions := []dossier.Decision{blocking("10.1.0.0/30", time.Minute), blocking(client4+"/32", time.Hour), blocking("255.255.255.255/32", time.Minute), blocking("ffff::/16", time.Minute)}
	for n := range 3000 {
		decisions = append(decisions, blocking(netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}).String()+"/32", time.Minute))
	}
	s.applyAll(t, decisions)
	// Exactly the same again, and then less.
	for _, ds := range [][]dossier.Decision{decisions, decisions[:1]} {
		if receipts, err := s.r.Apply(now(), ds); err != nil || !receipts[0].Applied {
			t.Fatalf("%+v, %v", receipts[:1], err)
		}
	}
}

// Ranges planned, written and read back cover exactly what the decisions say.
func TestPlanCoversExactlyTheTargets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := flow.Time(1e18)
		var ds []dossier.Decision
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			a := netip.AddrFrom4([4]byte{255, 255, 255, byte(rapid.IntRange(0, 255).Draw(t, "a"))})
			ds = append(ds, dossier.Decision{Verdict: dossier.Active, Until: at + 1e9, Target: netip.PrefixFrom(a, rapid.IntRange(25, 32).Draw(t, "bits")).Masked()})
		}
		got := parseElements(planBlocks(at, ds).setElements(false))
		for n := range 256 {
			host := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, byte(n)}), 32)
			want := false
			for _, d := range ds {
				want = want || d.Target.Contains(host.Addr())
			}
			if _, ok := got.findCovering(host); ok != want {
				t.Fatalf("%s covered: %v, want %v (%v)", host, ok, want, got)
			}
		}
	})
}

// UDP of a blocked source is dropped, but not its answers.
func TestBlockedSourceStillAnswersUDP(t *testing.T) {
	s := newStreet(t)
	listen := func(n *netlab.Node) net.PacketConn {
		var c net.PacketConn
		if err := n.Do(func() (err error) { c, err = net.ListenPacket("udp4", ":9"); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	client, server := listen(s.client), listen(s.server)
	send := func(from net.PacketConn, to string) {
		if _, err := from.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(to), Port: 9}); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(at net.PacketConn, within time.Duration) bool {
		at.SetReadDeadline(time.Now().Add(within))
		_, _, err := at.ReadFrom(make([]byte, 10))
		return err == nil
	}
	if _, err := s.r.Apply(now(), []dossier.Decision{blocking(client4+"/32", time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if send(client, server4); arrives(server, 500*time.Millisecond) {
		t.Error("a blocked source began to send UDP")
	}
	if send(server, client4); !arrives(client, 3*time.Second) {
		t.Fatal("UDP to a blocked source is lost")
	}
	if send(client, server4); !arrives(server, 3*time.Second) {
		t.Error("a blocked source's answer is lost")
	}
}
