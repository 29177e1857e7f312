//go:build linux

package trap

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func tracked(source, meant string, port uint16, proto, state uint8) *netlink.ConntrackFlow {
	f := &netlink.ConntrackFlow{
		Forward: netlink.IPTuple{SrcIP: net.ParseIP(source), DstIP: net.ParseIP(meant), DstPort: port, Protocol: proto},
		Reverse: netlink.IPTuple{SrcIP: net.ParseIP("10.66.0.2"), DstIP: net.ParseIP(source), Protocol: proto},
	}
	if proto == unix.IPPROTO_TCP {
		f.ProtoInfo = &netlink.ProtoInfoTCP{State: state}
	}
	return f
}

// TestForgedSourcesAreNotAttackers: who forges the sources of SYNs or datagrams, or
// opens many connections, neither accuses others nor hides the real attacker.
func TestForgedSourcesAreNotAttackers(t *testing.T) {
	var all []*netlink.ConntrackFlow
	for i := range 100 {
		forged := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}).String()
		all = append(all, tracked(forged, "192.0.2.200", 80, unix.IPPROTO_TCP, nl.TCP_CONNTRACK_SYN_RECV),
			tracked(forged, "192.0.2.200", 53, unix.IPPROTO_UDP, 0), // the same sources: listed, but last
			tracked("203.0.113.7", "192.0.2.201", uint16(i), unix.IPPROTO_TCP, nl.TCP_CONNTRACK_ESTABLISHED))
	}
	all = append(all, tracked("203.0.113.8", "192.0.2.200", 80, unix.IPPROTO_TCP, nl.TCP_CONNTRACK_TIME_WAIT))
	found, sure := listAttackers(all, netip.MustParseAddr("10.66.0.2"))
	if sure != 2 || found[0].Addr.String() != "203.0.113.7" || found[1].Addr.String() != "203.0.113.8" || len(found) != maxAttackers {
		t.Errorf("%d sure of %v", sure, found)
	}
	if found, _ := listAttackers(all, netip.MustParseAddr("10.66.0.3")); len(found) != 0 {
		t.Errorf("another honeypot has %v", found)
	}
	if found, sure := listAttackers(all[:1], netip.MustParseAddr("10.66.0.2")); len(found) != 0 || sure != 0 {
		t.Errorf("a SYN alone accuses %v", found)
	}
}
