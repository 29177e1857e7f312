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

// loadForOne loads the programs with small tables, for one connection.
func loadForOne(t *testing.T) (*Wire, tables.Ends) {
	testkit.Root(t)
	w, err := Load(Options{Host: 1, Net: 1, Settings: tables.DefaultSettings(), Room: [2]uint32{16, 16}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	ends := tables.Ends{Host: netip.MustParseAddrPort("10.0.0.5:40000"), Peer: netip.MustParseAddrPort("192.0.2.1:80")}
	if err := w.PutSource(ends.Host.Addr(), tables.Source{}); err != nil {
		t.Fatal(err)
	}
	return w, ends
}

// TestConcurrentAnswers has two processors spend what one connection allows: RSTs for
// what came in, and SYN|ACKs before the peer has agreed.
func TestConcurrentAnswers(t *testing.T) {
	w, ends := loadForOne(t)
	host, peer := ends.Host, ends.Peer
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

// TestConcurrentSides has the segments of the peer come in on one processor while those
// of the host leave on another.
func TestConcurrentSides(t *testing.T) {
	w, ends := loadForOne(t)
	host, peer := ends.Host, ends.Peer
	// A test run that a signal interrupts starts again, so count what ran.
	passed := func() (in, out uint64) {
		sum, err := w.Counters()
		if err != nil {
			t.Fatal(err)
		}
		return sum[tables.PassedIn], sum[tables.PassedOut]
	}
	both := func(in, out []byte, ins, outs uint32) {
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := w.objects.FromNet.Benchmark(in, int(ins), nil); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if _, _, err := w.objects.FromHost.Benchmark(out, int(outs), nil); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
	}
	rounds := 5000
	if testkit.Short(t) {
		rounds = 500
	}
	in := pathtest.Segment{Src: peer, Dst: host, Seq: 9000, Ack: 2, Flags: pathtest.ACK}.Frame()
	reset := pathtest.Segment{Src: host, Dst: peer, Seq: 2, Ack: 9000, Flags: pathtest.RST | pathtest.ACK}.Frame()
	open := tables.Conn{State: tables.Established, Seen: tables.SYNOut | tables.SYNIn, ISNOut: 1, OutUna: 2, OutNext: 2, ISNIn: 8999, InNext: 9000, AckHi: 9000}

	t.Run("each answer is owed once", func(t *testing.T) {
		closed := open
		closed.State = tables.Reset
		const segments = 100
		for round := range rounds {
			in0, out0 := passed()
			if err := w.PutConn(ends, closed); err != nil {
				t.Fatal(err)
			}
			both(in, reset, segments, 3*segments)
			if in1, out1 := passed(); out1-out0 > in1-in0 {
				t.Fatalf("round %d: the host answered %d segments by %d RSTs", round, in1-in0, out1-out0)
			}
		}
	})
	t.Run("what the peer ends stays ended", func(t *testing.T) {
		end := pathtest.Segment{Src: peer, Dst: host, Seq: 9000, Flags: pathtest.RST}.Frame()
		for round := range rounds {
			c := open
			c.Credits = 50
			if err := w.PutConn(ends, c); err != nil {
				t.Fatal(err)
			}
			both(end, reset, 3, 3)
			if c, ok := w.Conn(ends); !ok || c.State != tables.Ended {
				t.Fatalf("round %d: the connection is in state %d", round, c.State)
			}
		}
	})
	t.Run("numbers only grow", func(t *testing.T) {
		data := pathtest.Segment{Src: host, Dst: peer, Seq: 2, Ack: 9000, Flags: pathtest.ACK, Payload: make([]byte, 100)}.Frame()
		more := pathtest.Segment{Src: host, Dst: peer, Seq: 1002, Ack: 9000, Flags: pathtest.ACK, Payload: make([]byte, 100)}.Frame()
		for round := range rounds {
			if err := w.PutConn(ends, open); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for _, f := range [][]byte{data, more} {
				all.Go(func() {
					if _, _, err := w.objects.FromHost.Benchmark(f, 5, nil); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if c, _ := w.Conn(ends); c.OutNext != 1102 {
				t.Fatalf("round %d: the host's numbers end at %d, want 1102", round, c.OutNext)
			}
		}
	})
}
