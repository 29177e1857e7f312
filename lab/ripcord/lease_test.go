package ripcord_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"dragnet/contain/ripcord/path/pathtest"
)

// TestAddressGrantedByDHCP gives a host another address by DHCP, which it uses
// at once; one it takes by itself is refused.
func TestAddressGrantedByDHCP(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	own, granted := netip.MustParseAddr("10.7.0.66"), netip.MustParseAddr("10.7.0.77")
	for _, a := range []netip.Addr{own, granted} {
		l.check(l.host.Address("eth0", netip.PrefixFrom(a, 32)))
	}
	try := func(from netip.Addr) error {
		return l.host.Do(func() error {
			d := net.Dialer{Timeout: 1500 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
			c, err := d.Dial("tcp", at.String())
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	if try(own) == nil || try(granted) == nil {
		t.Fatal("the host uses an address that is not its own")
	}
	host, victim := l.raw(l.host, l.victim), l.raw(l.victim, l.host)
	message := func(op, kind uint8, src, dst string) []byte {
		b := make([]byte, 236, 250)
		b[0], b[1], b[2], b[4] = op, 1, 6, 9
		copy(b[16:], granted.AsSlice())
		copy(b[28:], host.from)
		b = append(b, 0x63, 0x82, 0x53, 0x63, 53, 1, kind, 255)
		return pathtest.UDP(netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), b)
	}
	host.send(message(1, 3, "0.0.0.0:68", "255.255.255.255:67"))
	victim.send(message(2, 5, "10.7.0.2:67", "10.7.0.77:68"))
	l.until("the host may use it", func() bool { return try(granted) == nil })
	if try(own) == nil || try(hostIPs[0]) == nil {
		t.Error("an address goes on that is not the granted one")
	}
}
