//go:build linux

package bpf

import (
	"net/netip"
	"sync"
	"testing"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/testkit"
)

// TestConcurrentAnswers has two processors spend what one connection allows: RSTs for
// what came in, and SYN|ACKs before the peer has agreed.
func TestConcurrentAnswers(t *testing.T) {
	testkit.Root(t)
	w, err := Load(Options{Host: 1, Net: 1, Settings: tables.DefaultSettings(), Room: [2]uint32{16, 16}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	host, peer := netip.MustParseAddrPort("10.0.0.5:40000"), netip.MustParseAddrPort("192.0.2.1:80")
	ends := tables.Ends{Host: host, Peer: peer}
	if err := w.PutSource(host.Addr(), tables.Source{}); err != nil {
		t.Fatal(err)
	}
	passed := func() uint64 {
		sum, err := w.Counters()
		if err != nil {
			t.Fatal(err)
		}
		return sum[tables.PassedOut]
	}
	const allowed, each = 50, 60
	for name, c := range map[string]struct {
		conn  tables.Conn
		flags uint8
	}{
		// Nothing is shifted, since a test run goes on with what it made.
		"RST":     {tables.Conn{State: tables.Reset, Seen: tables.SYNOut | tables.SYNIn, Credits: allowed}, pathtest.RST | pathtest.ACK},
		"SYN|ACK": {tables.Conn{State: tables.Handshaking, Seen: tables.SYNIn, ISNIn: 8999, InNext: 9000, AckHi: 9000, Grants: allowed}, pathtest.SYN | pathtest.ACK},
	} {
		t.Run(name, func(t *testing.T) {
			frame := pathtest.Segment{Src: host, Dst: peer, Seq: 1, Ack: 9000, Flags: c.flags}.Frame()
			for round := range 5000 {
				before := passed()
				if err := w.PutConn(ends, c.conn); err != nil {
					t.Fatal(err)
				}
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() {
						if _, _, err := w.objects.FromHost.Benchmark(frame, each, nil); err != nil {
							t.Error(err)
						}
					})
				}
				both.Wait()
				if n := passed() - before; n > allowed {
					t.Fatalf("round %d: %d packets left, and %d were allowed", round, n, allowed)
				}
			}
		})
	}
}
