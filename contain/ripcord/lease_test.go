//go:build linux

package ripcord

import (
	"net/netip"
	"testing"
	"time"

	"dragnet/contain/ripcord/path/pathtest"
)

// dhcp makes a message of the given type, with an address to grant.
func dhcp(kind uint8, xid byte, grant netip.Addr) []byte {
	b := make([]byte, 236, 260)
	b[0], b[1], b[2] = 1, 1, 6
	b[4] = xid
	copy(b[16:], grant.AsSlice())
	copy(b[28:], []byte{2, 0, 0, 0, 0, 1})
	b = append(b, 0x63, 0x82, 0x53, 0x63, 0, 12, 1, 'x', 53, 1, kind, 255)
	src, dst := netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67")
	if kind == dhcpAck {
		b[0] = 2
		src, dst = netip.MustParseAddrPort("10.0.0.254:67"), netip.MustParseAddrPort("255.255.255.255:68")
	}
	return pathtest.UDP(src, dst, b)
}

func TestLeaseMustHaveBeenAskedFor(t *testing.T) {
	now := time.Unix(1000, 0)
	grant := netip.MustParseAddr("10.0.0.9")
	type message struct {
		frame    []byte
		fromHost bool
		after    time.Duration
	}
	ask := message{dhcp(dhcpRequest, 1, netip.IPv4Unspecified()), true, 0}
	for name, c := range map[string]struct {
		messages []message
		want     bool
	}{
		"asked and granted":         {[]message{ask, {dhcp(dhcpAck, 1, grant), false, 0}}, true},
		"granted unasked":           {[]message{{dhcp(dhcpAck, 1, grant), false, 0}}, false},
		"another transaction":       {[]message{ask, {dhcp(dhcpAck, 2, grant), false, 0}}, false},
		"the host answers itself":   {[]message{ask, {dhcp(dhcpAck, 1, grant), true, 0}}, false},
		"too late":                  {[]message{ask, {dhcp(dhcpAck, 1, grant), false, time.Minute}}, false},
		"no address of a host":      {[]message{ask, {dhcp(dhcpAck, 1, netip.MustParseAddr("224.0.0.1")), false, 0}}, false},
		"an offer":                  {[]message{ask, {dhcp(2, 1, grant), false, 0}}, false},
		"the second of two answers": {[]message{ask, {dhcp(dhcpAck, 1, netip.MustParseAddr("127.0.0.1")), false, 0}, {dhcp(dhcpAck, 1, grant), false, 0}}, false},
	} {
		l := &leases{asked: map[request]time.Time{}}
		at, got := now, false
		for _, m := range c.messages {
			at = at.Add(m.after)
			a, ok := l.observeFrame(m.frame, m.fromHost, at)
			got = ok && a == grant
		}
		if got != c.want {
			t.Errorf("%s: granted %v, want %v", name, got, c.want)
		}
	}
}

func FuzzLease(f *testing.F) {
	f.Add(dhcp(dhcpRequest, 1, netip.IPv4Unspecified()), true)
	f.Add(dhcp(dhcpAck, 1, netip.MustParseAddr("10.0.0.9")), false)
	f.Fuzz(func(t *testing.T, frame []byte, fromHost bool) {
		l := &leases{asked: map[request]time.Time{}}
		l.observeFrame(dhcp(dhcpRequest, 1, netip.IPv4Unspecified()), true, time.Unix(0, 0))
		a, ok := l.observeFrame(frame, fromHost, time.Unix(1, 0))
		if ok && (!a.Is4() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified()) {
			t.Fatalf("%v was granted", a)
		}
	})
}
