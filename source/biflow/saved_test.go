package biflow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/flow"
)

// anyRecord draws a record between a few hosts, so that many belong together.
func anyRecord(t *rapid.T, now flow.Time) Record {
	host := func(label string) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, label) % 3})
	}
	proto := rapid.SampledFrom([]flow.Proto{flow.TCP, flow.UDP, flow.ICMP}).Draw(t, "proto")
	r := Record{Flow: flow.Flow{
		Start: now - flow.Time(rapid.Int64Range(0, 100).Draw(t, "ago"))*1e9, Duration: time.Duration(rapid.Int64Range(0, 5e10).Draw(t, "duration")),
		Orig: host("orig"), Resp: host("resp"), OrigPort: uint16(rapid.IntRange(1, 3).Draw(t, "port")), RespPort: uint16(rapid.IntRange(1, 3).Draw(t, "port")), Proto: proto,
		OrigFlags: flow.TCPFlags(rapid.Uint8Range(0, 63).Draw(t, "flags")), Known: flow.Counts | flow.Flags | flow.Lasting, OrigPkts: 1, OrigIPBytes: 60,
		Exporter: netip.AddrFrom4([4]byte{192, 0, 2, rapid.Byte().Draw(t, "exporter") % 3}), Domain: uint32(rapid.IntRange(0, 1).Draw(t, "domain")),
	}}
	r.Biflow, r.Over, r.Egress = rapid.Bool().Draw(t, "biflow"), rapid.Bool().Draw(t, "over"), rapid.Bool().Draw(t, "egress")
	return r
}

// TestARestartChangesNothing: a Joiner that is saved and restored between any two
// records makes the flows of one that is not. (Where there is no room, another
// conversation may be the one that is reported early.)
func TestARestartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := DefaultConfiguration()
		config.MaxExporters = 8
		var want, got []flow.Flow
		whole := New(config, func(f *flow.Flow) { want = append(want, *f) })
		parts := New(config, func(f *flow.Flow) { got = append(got, *f) })
		now := flow.Time(1_700_000_000e9)
		for range rapid.IntRange(1, 60).Draw(t, "records") {
			now += flow.Time(rapid.Int64Range(0, 30e9).Draw(t, "later"))
			r := anyRecord(t, now)
			again := r
			whole.Add(now, &r)
			parts.Add(now, &again)
			if rapid.Bool().Draw(t, "restart") {
				next := New(config, func(f *flow.Flow) { got = append(got, *f) })
				if err := next.Restore(parts.Save()); err != nil {
					t.Fatal(err)
				}
				parts = next
			}
		}
		if diff := cmp.Diff(whole.Qualities(), parts.Qualities()); diff != "" {
			t.Fatal(diff)
		}
		whole.Flush()
		parts.Flush()
		count := map[flow.Flow]int{}
		for _, f := range want {
			count[f]++
		}
		for _, f := range got {
			count[f]--
		}
		for f, n := range count {
			if n != 0 {
				t.Fatalf("%+d times without a restart: %+v", n, f)
			}
		}
	})
}

func FuzzRestore(f *testing.F) {
	j := New(DefaultConfiguration(), func(*flow.Flow) {})
	f.Add(j.Save())
	for n := range 3 {
		j.Add(flow.Time(n), &Record{Flow: flow.Flow{Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), OrigPort: uint16(n), Proto: flow.TCP, Exporter: netip.MustParseAddr("192.0.2.3")}})
	}
	f.Add(j.Save())
	f.Fuzz(func(t *testing.T, b []byte) {
		c := DefaultConfiguration()
		c.MaxFlows, c.MaxExporters = 8, 2
		j := New(c, func(*flow.Flow) {})
		if j.Restore(b) != nil && j.Held() > 0 {
			t.Fatal("what is damaged was taken")
		}
		if j.Held() > 8 {
			t.Fatalf("%d are held", j.Held())
		}
		j.Add(1, &Record{Flow: flow.Flow{Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), Exporter: netip.MustParseAddr("192.0.2.3")}})
		j.Flush()
	})
}
