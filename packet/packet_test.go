package packet_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// records calls fn for every packet of every capture of the shared data.
func records(t testing.TB, fn func(place string, rec capture.Record)) {
	t.Helper()
	err := filepath.WalkDir(testkit.Data(t), func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimSuffix(path, ".gz")
		if err != nil || d.IsDir() || !slices.Contains([]string{".pcap", ".pcapng", ".cap"}, filepath.Ext(name)) {
			return err
		}
		f, err := capture.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for {
			rec, err := f.Next()
			var skip *capture.SkipError
			if errors.As(err, &skip) {
				continue
			}
			if err != nil {
				return nil
			}
			fn(strings.TrimPrefix(path, testkit.Data(t)), rec)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// outer is what gopacket says of the outermost IP packet.
type outer struct {
	src, dst     netip.Addr
	proto        flow.Proto
	sport, dport uint16
	seq, ack     uint32
	flags        flow.TCPFlags
	payload      int
	icmp         [2]uint8
}

// byGopacket decodes with gopacket; ok is false where it sees no whole
// transport header in an unfragmented packet.
func byGopacket(link packet.LinkType, data []byte) (o outer, ok bool) {
	p := gopacket.NewPacket(data, layers.LinkType(link), gopacket.DecodeOptions{NoCopy: true, Lazy: true})
	seenIP := false
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			if seenIP || l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 || l.Length == 0 {
				return o, false
			}
			seenIP = true
			o.src, _ = netip.AddrFromSlice(l.SrcIP)
			o.dst, _ = netip.AddrFromSlice(l.DstIP)
		case *layers.IPv6:
			if seenIP {
				return o, false
			}
			seenIP = true
			o.src, _ = netip.AddrFromSlice(l.SrcIP)
			o.dst, _ = netip.AddrFromSlice(l.DstIP)
		case *layers.IPv6Fragment, *layers.IPv6Routing, *layers.IPv6Destination:
			return o, false // change the addresses, or are pieces
		case *layers.TCP:
			o.proto, o.sport, o.dport, o.seq, o.ack = flow.TCP, uint16(l.SrcPort), uint16(l.DstPort), l.Seq, l.Ack
			for i, set := range []bool{l.FIN, l.SYN, l.RST, l.PSH, l.ACK, l.URG, l.ECE, l.CWR} {
				if set {
					o.flags |= 1 << i
				}
			}
			o.payload = len(l.Payload)
			return o, seenIP
		case *layers.UDP:
			o.proto, o.sport, o.dport, o.payload = flow.UDP, uint16(l.SrcPort), uint16(l.DstPort), len(l.Payload)
			return o, seenIP
		case *layers.ICMPv4:
			o.proto, o.icmp, o.payload = flow.ICMP, [2]uint8{l.TypeCode.Type(), l.TypeCode.Code()}, len(l.Payload)
			return o, seenIP
		case *layers.ICMPv6:
			o.proto, o.icmp, o.payload = flow.ICMPv6, [2]uint8{l.TypeCode.Type(), l.TypeCode.Code()}, len(l.Payload)
			return o, seenIP
		}
	}
	return o, false
}

// TestSameAsGopacket compares headers of every packet that both understand.
func TestSameAsGopacket(t *testing.T) {
	both, onlyGopacket, differ := 0, 0, 0
	var p packet.Packet
	records(t, func(place string, rec capture.Record) {
		want, ok := byGopacket(rec.Link, rec.Data)
		err := p.Decode(rec.Link, rec.Data, rec.Wire)
		if !ok {
			return
		}
		if err != nil || !p.Decoded {
			if onlyGopacket++; onlyGopacket < 10 {
				t.Logf("%s: packet %d: %v; gopacket reads %+v", place, rec.Number, err, want)
			}
			return
		}
		both++
		got := outer{p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort, p.Seq, p.Ack, p.Flags, len(p.Payload), [2]uint8{p.ICMPType, p.ICMPCode}}
		if p.Proto == flow.ICMPv6 {
			want.payload = got.payload // gopacket takes parts of the body for the header
		}
		if got != want {
			if differ++; differ < 10 {
				t.Errorf("%s: packet %d:\ngot  %+v\nwant %+v", place, rec.Number, got, want)
			}
		}
	})
	if both < 50_000 {
		t.Errorf("only %d packets compared", both)
	}
	// What gopacket reads and we do not: lengths that lie beyond the frame.
	if onlyGopacket > both/500 {
		t.Errorf("%d packets only gopacket decodes, of %d", onlyGopacket, both)
	}
	t.Logf("%d packets equal, %d decoded by gopacket only", both-differ, onlyGopacket)
}
