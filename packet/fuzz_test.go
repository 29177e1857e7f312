package packet_test

import (
	"os"
	"testing"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// FuzzDecode decodes arbitrary bytes on every link type and holds the packet
// to its promises; fragments go through a Defragmenter.
func FuzzDecode(f *testing.F) {
	f.Add(uint16(1), []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00E\x00\x00\x1c\x00\x01\x20\x00\x40\x11\x00\x00abcdefgh"), uint16(0))
	if os.Getenv("DRAGNET_DATA") != "" {
		n := 0
		records(f, func(_ string, rec capture.Record) {
			if n++; n%1000 == 0 {
				f.Add(uint16(rec.Link), append([]byte(nil), rec.Data...), uint16(rec.Wire-len(rec.Data)))
			}
		})
	}
	f.Fuzz(func(t *testing.T, link uint16, data []byte, missing uint16) {
		var p packet.Packet
		d := packet.NewDefragmenter()
		if err := p.Decode(packet.LinkType(link), data, len(data)+int(missing)); err != nil {
			return
		}
		if p.Fragment {
			if whole, err := d.Add(0, &p); err != nil || !whole {
				return
			}
		}
		if !p.Src.IsValid() || !p.Dst.IsValid() || p.Src.Is4In6() || p.Dst.Is4In6() {
			t.Errorf("addresses %v %v", p.Src, p.Dst)
		}
		if len(p.Payload) > p.PayloadLen || p.PayloadLen > p.IPLen || p.PayloadLen < 0 {
			t.Errorf("payload %d of %d, IP %d", len(p.Payload), p.PayloadLen, p.IPLen)
		}
		p.HeaderChecksum()
		p.Checksum()
		for range p.TCPOptions {
		}
		if q, ok := p.Quoted(); ok && (!q.Src.IsValid() || q.Src.Is4In6() || p.Proto != flow.ICMP && p.Proto != flow.ICMPv6) {
			t.Errorf("quote %+v", q)
		}
	})
}
