package biflow

import (
	"net/netip"
	"testing"

	"dragnet/flow"
)

// TestAFloodSplitsItsOwnFlows: an exporter that reports conversations without end
// fills the table; those of others are held until their answers come.
func TestAFloodSplitsItsOwnFlows(t *testing.T) {
	real, forger := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.66")
	var got []flow.Flow
	c := DefaultConfiguration()
	c.MaxFlows = 1000
	j := New(c, func(f *flow.Flow) {
		if f.Exporter == real {
			got = append(got, *f)
		}
	})
	one := func(from netip.Addr, n int, back bool) {
		r := record(client, server, uint16(32768+n%20000), uint16(1+n/20000), flow.SYN, second, 1)
		if back {
			r = record(server, client, uint16(1+n/20000), uint16(32768+n%20000), flow.SYN|flow.ACK|flow.RST, second, 1)
		}
		r.Exporter = from
		j.Add(second, &r)
	}
	const conversations = 300
	for n := range conversations {
		one(real, n, false)
	}
	for n := range 50_000 {
		one(forger, n, false)
	}
	if len(got) != 0 || j.Held() > c.MaxFlows {
		t.Fatalf("%d flows of the other exporter were reported early, %d are held", len(got), j.Held())
	}
	for n := range conversations {
		one(real, n, true)
	}
	j.Flush()
	for _, f := range got {
		if f.State != flow.RSTR {
			t.Fatalf("%+v", f)
		}
	}
	q := j.Qualities()
	if len(got) != conversations || q[real].Early != 0 || q[forger].Early != 50_000-(1000-conversations) {
		t.Errorf("%d flows, %+v, %+v", len(got), q[real], q[forger])
	}
}
