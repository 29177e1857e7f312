package collect

import (
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
	"dragnet/source/sourcetest"
)

// TestAForgerLeavesOthersAlone: whatever a forger sends from other addresses of a
// configured prefix, real exporters' flows come out as without it, and memory
// stays bounded: templates without end, lengths that lie, clocks of other
// centuries, and real datagrams with bytes changed.
func TestAForgerLeavesOthersAlone(t *testing.T) {
	real := sourcetest.Datagrams(t, testkit.Data(t, "exports", "softflowd_xscan_v9.pcap"), netflow.Is)
	mixed := sourcetest.Datagrams(t, testkit.Data(t, "exports", "ovs-netflow-sflow-ipfix.pcap.gz"), func(b []byte) bool { return netflow.Is(b) || sflow.Is(b) })
	vendors := sourcetest.Datagrams(t, testkit.Data(t, "exports", "logstash_netflow_datagrams.pcap"), netflow.Is)
	home := netip.MustParseAddr("192.0.2.1")
	run := func(forged func(i int, send func(netip.Addr, []byte))) (flows []flow.Flow, c *Collector) {
		config := DefaultConfiguration()
		config.Exporters = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8")}
		config.NetFlow.MaxExporters, config.SFlow.MaxExporters, config.Join.MaxExporters, config.Join.MaxFlows = 64, 64, 64, 1<<12
		config.Join.MaxSkew = 0
		c, err := New(config, Dependencies{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		now := flow.FromTime(time.Unix(1_800_000_000, 0))
		for i, g := range real {
			c.takeDatagram(now, home, g.Data, &socket{})
			if forged != nil {
				forged(i, func(from netip.Addr, b []byte) { c.takeDatagram(now, from, b, &socket{}) })
			}
			now += flow.Time(time.Millisecond)
		}
		c.join.Flush()
		for _, f := range c.pending {
			if f.Exporter == home {
				flows = append(flows, f)
			}
		}
		return flows, c
	}
	want, _ := run(nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, c := run(func(i int, send func(netip.Addr, []byte)) {
		from := func() netip.Addr {
			return netip.AddrFrom4([4]byte{10, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())})
		}
		few := netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.Uint32N(8))})
		for range 200 {
			// Templates of every number in every domain, as large as a datagram.
			b := binary.BigEndian.AppendUint16(nil, 10)
			count := 1 + rng.IntN(300)
			b = binary.BigEndian.AppendUint16(b, uint16(16+8+4*count))
			b = binary.BigEndian.AppendUint32(b, rng.Uint32())
			b = binary.BigEndian.AppendUint32(b, rng.Uint32())
			b = binary.BigEndian.AppendUint32(b, rng.Uint32N(1000))
			b = binary.BigEndian.AppendUint16(b, 2)
			b = binary.BigEndian.AppendUint16(b, uint16(8+4*count))
			b = binary.BigEndian.AppendUint16(b, uint16(256+rng.Uint32N(60000)))
			b = binary.BigEndian.AppendUint16(b, uint16(count))
			for range count {
				b = binary.BigEndian.AppendUint32(b, rng.Uint32()&0x7fffffff)
			}
			send(few, b)
			send(from(), b)
			for _, set := range [][]sourcetest.Datagram{mixed, vendors, real} {
				b := append([]byte(nil), set[rng.IntN(len(set))].Data...)
				for range rng.IntN(6) {
					b[rng.IntN(len(b))] = byte(rng.Uint32())
				}
				send(few, b[:1+rng.IntN(len(b))])
				send(few, b)
			}
		}
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(got) != len(want) {
		t.Fatalf("%d flows of the real exporter, %d without the forger", len(got), len(want))
	}
	count := map[flow.Flow]int{}
	for i := range want {
		count[want[i]]++
		count[got[i]]--
	}
	for f, n := range count {
		if n != 0 {
			t.Errorf("%+d times without the forger: %+v", n, f)
		}
	}
	if len(c.pending) > c.config.MaxPending || c.join.Held() > c.config.Join.MaxFlows || len(c.Exporters()) > 3*64+1 {
		t.Errorf("%d pending, %d held, %d exporters", len(c.pending), c.join.Held(), len(c.Exporters()))
	}
	// What is kept of 64 exporters and their flows, besides what waits to be stored.
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc) - int64(cap(c.pending))*400; kept > 200<<20 {
		t.Errorf("%d MiB are kept", kept>>20)
	}
	totals := c.Totals()
	if totals.Datagrams < 8*200*uint64(len(real)) {
		t.Errorf("%+v", totals)
	}
	t.Logf("%+v", totals)
}

// TestAForgerInAWidePrefix sends flows that look right from more addresses of a
// configured prefix than max_exporters: an exporter heard before stays, one
// of another prefix is heard, and an address that never sends flows keeps none out.
func TestAForgerInAWidePrefix(t *testing.T) {
	config := DefaultConfiguration()
	config.Exporters = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("198.51.100.0/24")}
	config.NetFlow.MaxExporters, config.SFlow.MaxExporters, config.Join.MaxExporters = 64, 64, 64
	c, err := New(config, Dependencies{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	now, number := flow.FromTime(time.Unix(1_800_000_000, 0)), uint32(0)
	records := func(from string) uint64 { return c.netflow.Counters()[netip.MustParseAddr(from)].Records }
	flowOf := func(from netip.Addr) {
		number++
		c.takeDatagram(now, from, datagram5(number), &socket{})
	}
	known := "10.0.0.1"
	flowOf(netip.MustParseAddr(known))
	for n := range 10_000 {
		flowOf(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}))
	}
	for _, from := range []string{known, "192.0.2.1", "198.51.100.7", "198.51.100.8"} {
		before := records(from)
		for range 100 {
			flowOf(netip.MustParseAddr(from))
			flowOf(netip.AddrFrom4([4]byte{10, 2, byte(number >> 8), byte(number)}))
		}
		if got := records(from) - before; got != 100 {
			t.Errorf("of 100 flows of %s, %d were heard", from, got)
		}
	}
	// A prefix full of addresses that send no flows.
	for n := range 10_000 {
		c.takeDatagram(now, netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), message10(), &socket{})
	}
	for range 100 {
		flowOf(netip.MustParseAddr("198.51.100.9"))
	}
	if got := records("198.51.100.9"); got != 100 {
		t.Errorf("of 100 flows of one among the silent, %d were heard", got)
	}
	if n := len(c.netflow.Counters()); n > 64 {
		t.Errorf("%d exporters are kept", n)
	}
	if n := c.Totals(); n.Refused == 0 || c.Sources()[0].NetFlow.Records < 64 {
		t.Errorf("%+v", n)
	}
	config.Join.MaxExporters = 2
	if config.Validate() == nil {
		t.Error("three prefixes need room for three")
	}
}

// message10 is an IPFIX message without sets.
func message10() []byte {
	b := binary.BigEndian.AppendUint16(nil, 10)
	b = binary.BigEndian.AppendUint16(b, 16)
	return append(b, make([]byte, 12)...)
}
