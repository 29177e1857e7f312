package ripcord_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
	"dragnet/flow"
)

// load is what a gateway carried, and what came of it.
type load struct {
	opened, done   int64 // played connections
	served, failed int64 // connections of a client with sockets
	flooded        int
	why            map[string]int // they failed
}

// TestLoad opens many connections a second to a host behind the gateway, beside which
// a client with sockets must always be served, in the second half under a flood of SYNs
// from addresses that do not answer, and does a tenth of that through a bridge. At the
// end nothing may be left in the tables. DRAGNET_SOAK is how long it takes, a few
// seconds without; then rates are low as well, since other tests run beside it.
func TestLoad(t *testing.T) {
	long, perSecond, flood := 4*time.Second, 2000, 2000
	if s := os.Getenv("DRAGNET_SOAK"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		perSecond, flood = 20_000, 20_000
	} else {
		t.Parallel()
	}
	report := func(kind string, l *load) {
		t.Logf("%s: %d of %d played connections complete, %d served and %d failed beside them, %d SYNs of the flood; %v", kind, l.done, l.opened, l.served, l.failed, l.flooded, l.why)
	}
	bridge, at := rateLab(t, "bridge")
	beside := bridge.carry(at, long/10, perSecond, flood)
	report("bridge", beside)

	l, at := rateLabWith(t, "ripcord", "idle: {closed: 5s, handshake: 5s}\n")
	before := l.agentMemory()
	got := l.carry(at, long, perSecond, flood)
	report("gateway", got)
	t.Logf("the agent's memory: %s at first, %s now; counters: opened %d, table-full %d", before, l.agentMemory(), l.counter("opened"), l.counter("table-full"))
	if got.failed > 0 && float64(got.failed)/float64(got.served) > float64(beside.failed)/float64(beside.served)+0.0001 {
		t.Errorf("%d of %d connections failed, through a bridge %d of %d", got.failed, got.served+got.failed, beside.failed, beside.served+beside.failed)
	}
	if n := l.counter("table-full"); n != 0 {
		t.Errorf("%d connections were refused since a table was full", n)
	}
	if got.served == 0 || got.done == 0 {
		t.Error("nothing was served")
	}
	l.until("all connections are forgotten", func() bool {
		w, err := bpf.Open(l.pins)
		l.check(err)
		defer w.Close()
		left := 0
		w.Conns(func(tables.Ends, tables.Conn) bool { left++; return true })
		return left == 0
	})
}

// carry plays connections, calls a server with sockets, and in the second half floods.
func (l *lab) carry(at netip.AddrPort, d time.Duration, perSecond, flood int) *load {
	l.t.Helper()
	var out load
	ctx, cancel := context.WithTimeout(l.t.Context(), d)
	defer cancel()
	serving, stop := context.WithCancel(l.t.Context())
	p := l.players()
	var client, all sync.WaitGroup
	var errs [2]error
	all.Go(func() { errs[0] = serveShort(serving, l.host, at) })
	c := caller{to: at, atOnce: 64, perSecond: 200}
	client.Go(func() { errs[1] = c.run(ctx, l.victim) })
	spoofed := l.raw(l.victim, l.host)
	client.Go(func() { out.flooded = floodSYNs(ctx, spoofed, at, d/2, flood) })
	out.opened, out.done = p.play(d, perSecond)
	client.Wait()
	stop()
	all.Wait()
	for _, err := range errs {
		l.check(err)
	}
	out.served, out.failed, out.why = c.done.Load(), c.failed.Load(), c.why
	return &out
}

// floodSYNs sends first SYNs in the names of silent addresses to an open and a closed
// port in turn, after some time and until ctx ends.
func floodSYNs(ctx context.Context, r *raw, at netip.AddrPort, after time.Duration, perSecond int) (sent int) {
	select {
	case <-ctx.Done():
		return 0
	case <-time.After(after):
	}
	frame := pathtest.Segment{Src: netip.MustParseAddrPort("198.18.0.1:1"), Dst: at, Flags: pathtest.SYN, Options: []byte{2, 4, 5, 180}}.Frame()
	for start := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		for due := int(time.Since(start).Seconds() * float64(perSecond)); sent < due && ctx.Err() == nil; sent++ {
			binary.BigEndian.PutUint16(frame[srcAt+2:], uint16(sent))
			binary.BigEndian.PutUint16(frame[sportAt:], uint16(1024+sent>>16))
			binary.BigEndian.PutUint16(frame[dportAt:], at.Port()+uint16(sent&1))
			binary.BigEndian.PutUint32(frame[seqAt:], uint32(sent)*2654435761)
			sumHeader(frame)
			sumTCP(frame)
			r.send(frame)
		}
	}
	return sent
}

// sumTCP writes the checksum of a frame of IPv4 and TCP without IP options.
func sumTCP(frame []byte) {
	src, _ := netip.AddrFromSlice(frame[srcAt : srcAt+4])
	dst, _ := netip.AddrFromSlice(frame[dstAt : dstAt+4])
	pathtest.Sum(frame[sportAt:], 16, src, dst, 6)
}

// agentMemory is the resident set of the agent.
func (l *lab) agentMemory() string {
	l.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.agent.Pid()))
	l.check(err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	return "unknown"
}

// TestSlowHandshakeUnderFlood has a peer answer the host's SYN|ACK only after 40,000
// SYNs from others: two seconds later at 20,000 a second.
func TestSlowHandshakeUnderFlood(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	third := netip.MustParseAddrPort("10.7.0.9:4000")
	at := netip.AddrPortFrom(hostIPs[0], 80)
	l.listen(l.host, at, echo)
	l.silent(l.host, third.Addr())
	l.check(l.ping(l.victim, hostIPs[0])) // its address is learnt
	wire := l.tap(l.gateway, "outside")
	slow := l.raw(l.victim, l.host)
	slow.send(pathtest.Segment{Src: third, Dst: at, Seq: 9000, Flags: pathtest.SYN, Options: []byte{2, 4, 5, 180}}.Frame())
	var seq uint32
	l.until("the host answers", func() bool {
		for _, p := range wire.packets() {
			if p.Dst == third.Addr() && p.Flags&flow.SYN != 0 {
				seq = p.Seq
				return true
			}
		}
		return false
	})
	const others = 40_000
	opened := l.counter("opened")
	ctx, cancel := context.WithCancel(t.Context())
	flooded := make(chan int)
	go func() { flooded <- floodSYNs(ctx, slow, at, 0, others) }()
	l.until("others have sent SYNs", func() bool { return l.counter("opened") >= opened+others })
	cancel()
	<-flooded
	slow.send(pathtest.Segment{Src: third, Dst: at, Seq: 9001, Ack: seq + 1, Flags: pathtest.ACK, Payload: []byte("hello")}.Frame())
	l.until("the host echoes what the slow peer says", func() bool {
		for _, p := range wire.packets() {
			if p.Dst == third.Addr() && p.PayloadLen == 5 {
				return true
			}
		}
		return false
	})
}
