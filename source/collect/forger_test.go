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
		c, err := New(config, "", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		now := flow.FromTime(time.Unix(1_800_000_000, 0))
		for i, g := range real {
			c.datagram(now, home, g.Data, &socket{})
			if forged != nil {
				forged(i, func(from netip.Addr, b []byte) { c.datagram(now, from, b, &socket{}) })
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
	if totals.Refused == 0 || totals.Datagrams < 8*200*uint64(len(real)) {
		t.Errorf("%+v", totals)
	}
	t.Logf("%+v", totals)
}
