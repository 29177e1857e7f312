//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/trace/protocol"
)

// TestAnswersWithinTheDeadline occupies all slots for walks.
func TestAnswersWithinTheDeadline(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, func(c *Configuration) { c.Deadline, c.Lookups = 200*time.Millisecond, 1 })
	local, remote, _ := connection(t)
	d.lookups <- struct{}{}
	q := fmt.Sprintf("%d,%d:SV\r\n", local.Port(), remote.Port())
	if got := shape(ask(t, address, q), local, remote); got != "PAIR:ERROR:UNKNOWN-ERROR" {
		t.Errorf("no slot: %s", got)
	}
	if got := shape(ask(t, address, fmt.Sprintf("%d,%d\r\n", local.Port(), remote.Port())), local, remote); got != "PAIR:USERID:OTHER:TOKEN" {
		t.Errorf("ID needs no slot: %s", got)
	}
	<-d.lookups
	// A walk may take longer than the deadline on a busy machine: it is asked again.
	var got string
	for range 100 {
		if got = shape(ask(t, address, q), local, remote); got == "PAIR:USERID:OTHER:TOKEN" {
			return
		}
	}
	t.Errorf("free slot: %s", got)
}

func TestConnectionsAreBounded(t *testing.T) {
	d, address := start(t, func(c *Configuration) { c.PerAsker = 2 })
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	open[2].SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := open[2].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the third connection was not refused: %d, %v", n, err)
	}
	if d.Stats.Refused.Load() != 1 {
		t.Errorf("%d refused", d.Stats.Refused.Load())
	}
}

func TestLoops(t *testing.T) {
	l := newRecent[loopKey](120 * time.Second)
	now := time.Unix(1e9, 0)
	k := loopKey{asker: netip.MustParseAddr("192.0.2.1"), session: 7, ports: protocol.Ports{Asked: 1, Asking: 2}}
	if _, again := l.noteRequest(k, "", now); again {
		t.Error("the first request is a loop")
	}
	l.noteToken(k, "first")
	if first, again := l.noteRequest(k, "", now.Add(119*time.Second)); !again || first != "first" {
		t.Errorf("within 120 s: %q %v", first, again)
	}
	for _, other := range []loopKey{
		{k.asker, k.remote, 8, k.ports}, {netip.MustParseAddr("192.0.2.2"), k.remote, 7, k.ports}, {k.asker, k.remote, 7, protocol.Ports{Asked: 1, Asking: 3}},
	} {
		if _, again := l.noteRequest(other, "", now); again {
			t.Errorf("%+v is a loop of %+v", other, k)
		}
	}
	if _, again := l.noteRequest(k, "", now.Add(121*time.Second)); again {
		t.Error("a loop after 120 s")
	}
	for i := range maxLoops + 10 {
		l.noteRequest(loopKey{session: uint32(i)}, "", now)
	}
	if len(l.seen) > maxLoops || len(l.seen) != len(l.order) {
		t.Errorf("%d remembered, %d in order", len(l.seen), len(l.order))
	}
}

func TestBudgetsAreBoundedAndRefill(t *testing.T) {
	b := newBudgets(Budget{PerMinute: 60, Burst: 2})
	now := time.Unix(1e9, 0)
	a := netip.MustParseAddr("2001:db8::1")
	twin := netip.MustParseAddr("2001:db8::2") // the same /64
	if !b.takeToken(a, now) || !b.takeToken(twin, now) || b.takeToken(a, now) {
		t.Error("burst of 2 for one /64")
	}
	if !b.takeToken(a, now.Add(time.Second)) || b.takeToken(a, now.Add(time.Second)) {
		t.Error("one a second after that")
	}
	for i := range 3 * maxBuckets {
		b.takeToken(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(b.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(b.buckets))
	}
}

func TestLoadConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ident.yaml")
	load := func(text string) (Configuration, error) {
		os.WriteFile(path, []byte(text), 0o600)
		return LoadConfiguration(path)
	}
	c, err := load("deadline: 2s\naskers:\n- network: 192.0.2.0/24\n  kinds: [SV]\nwalk:\n  save: {files: false}\n")
	if err != nil || c.Deadline != 2*time.Second || c.Walk.Save.Files || !c.Walk.Save.Logins {
		t.Errorf("%+v, %v", c, err)
	}
	r := c.ruleFor(netip.MustParseAddr("192.0.2.9"))
	if !r.kinds[protocol.Save] || r.kinds[protocol.SaveRec] || r.remote {
		t.Errorf("%+v", r)
	}
	if c, err := load(""); err != nil || c.Lookups != 8 {
		t.Errorf("empty file: %v", err)
	}
	for text, want := range map[string]string{
		"nonsense: 1\n":                                 ":1: nonsense: unknown key",
		"askers:\n- kinds: [SV]\n":                      "network: is missing",
		"askers:\n- {network: 1.2.3.4}\n":               "ParsePrefix",
		"askers:\n- {network: \"::/0\", kinds: [sv]}\n": "request type",
		"recursion: {loop: 1s}\n":                       "120s",
		"lookups: 0\n":                                  "lookups",
		"redeem: {investigators: [x]}\n":                "public key",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestStrangersLeaveRoom fills all places for strangers; a configured asker is
// still served.
func TestStrangersLeaveRoom(t *testing.T) {
	d, address := start(t, func(c *Configuration) {
		c.Connections, c.PerAsker = 8, 8
		c.Askers = []Asker{{Network: netip.MustParsePrefix("127.0.0.1/32"), Kinds: []string{"SV"}}}
	})
	for range 8 {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := from.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if got := shape(ask(t, address, "1,2\r\n"), netip.AddrPort{}, netip.AddrPort{}); got != "1,2:ERROR:NO-USER" {
		t.Errorf("a configured asker gets %q", got)
	}
	if d.Stats.Refused.Load() != 2 {
		t.Errorf("%d strangers were refused, want 2 of 8", d.Stats.Refused.Load())
	}
}

// TestQuestionsAboutNothingCostNoSaveBudget is a local user of the asking host,
// who asks in its name until nothing is left for it.
func TestQuestionsAboutNothingCostNoSaveBudget(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, func(c *Configuration) { c.SaveBudget = Budget{PerMinute: 0.001, Burst: 1} })
	local, remote, _ := connection(t)
	ask(t, address, strings.Repeat("1,2:SV\r\n", 70))
	ask(t, address, fmt.Sprintf("%d,%d:SV\r\n", local.Port(), remote.Port()))
	if n := d.Stats.Walks.Load(); n != 1 {
		t.Errorf("%d walks, want that of the true question", n)
	}
	ask(t, address, fmt.Sprintf("%d,%d:SV\r\n", local.Port(), remote.Port()))
	if n := d.Stats.Walks.Load(); n != 1 {
		t.Errorf("%d walks with a budget of one", n)
	}
}

// TestDecoysDoNotCrowdOut has 70 connections to one host before the one that
// matters.
func TestDecoysDoNotCrowdOut(t *testing.T) {
	var inbound []target
	for i := range 71 {
		a := "192.0.2.3"
		if i == 70 {
			a = "192.0.2.4"
		}
		in := target{}
		in.Inode, in.Remote = uint64(i+1), netip.AddrPortFrom(netip.MustParseAddr(a), uint16(1000+i))
		inbound = append(inbound, in)
	}
	ordered := orderFairly(inbound)
	if len(ordered) != 71 || ordered[0].Inode != 1 || ordered[1].Inode != 71 || ordered[2].Inode != 2 {
		t.Errorf("%d in the order %d, %d, %d", len(ordered), ordered[0].Inode, ordered[1].Inode, ordered[2].Inode)
	}
}

// TestCallsAreBounded opens connections to the calls' port and says nothing.
func TestCallsAreBounded(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBoundedListener(l)
	defer b.Close()
	accepted := make(chan net.Conn, 2*maxCalls)
	go func() {
		for {
			c, err := b.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	refused := 0
	for range maxCallsPerHost + 3 {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			refused++
		}
	}
	if refused != 3 || len(accepted) != maxCallsPerHost {
		t.Errorf("%d refused, %d accepted", refused, len(accepted))
	}
	for range maxCallsPerHost {
		c := <-accepted
		c.Close()
		c.Close()
	}
	if b.total != 0 || len(b.open) != 0 {
		t.Errorf("%d places are not given back", b.total)
	}
}
