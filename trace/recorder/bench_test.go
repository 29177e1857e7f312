//go:build linux

package recorder

import (
	"net/netip"
	"testing"
	"time"

	"dragnet/trace/kernel"
)

// BenchmarkConnections takes in the events of connections within one host, both
// ends, and writes what is to be written.
func BenchmarkConnections(b *testing.B) {
	r := newWriter(b, b.TempDir(), DefaultConfiguration())
	me := r.finder.OwnNetNS()
	client, server := kernel.ProcessID{PID: 5, Start: 1e9}, kernel.ProcessID{PID: 6, Start: 1e9}
	for _, id := range []kernel.ProcessID{client, server} {
		r.table.add(kernel.Event{Kind: kernel.Forked, ID: id})
	}
	service := netip.MustParseAddrPort("192.0.2.1:80")
	now := time.Now()
	b.ReportAllocs()
	for i := range b.N {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 24), byte(i >> 16)}), uint16(i))
		at := uint64(now.UnixNano()) + uint64(i)
		for _, e := range []kernel.Event{
			{Kind: kernel.Opened, Time: at, Started: at, Opener: client, ID: client, Direction: kernel.Outbound, NetNS: me, Local: from, Remote: service},
			{Kind: kernel.Opened, Time: at, Started: at, Direction: kernel.Inbound, NetNS: me, Local: service, Remote: from},
			{Kind: kernel.Closed, Time: at + 1, Started: at, Opener: client, ID: client, Direction: kernel.Outbound, NetNS: me, Local: from, Remote: service},
			{Kind: kernel.Closed, Time: at + 1, Started: at, ID: server, Direction: kernel.Inbound, NetNS: me, Local: service, Remote: from},
		} {
			r.table.add(e)
		}
		if i%500 == 499 {
			r.table.fresh = nil
			r.writeEnded(r.table.takeEnded(), now)
		}
	}
}
