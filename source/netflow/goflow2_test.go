package netflow

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	goflow "github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/sourcetest"
)

// essence is what both decoders know of a record.
type essence struct {
	orig, resp       netip.Addr
	srcPort, dstPort uint16
	proto            flow.Proto
	packets, octets  uint64
	flags            flow.TCPFlags
}

// ofGoflow2 decodes datagrams with goflow2, with templates by exporter.
func ofGoflow2(t testing.TB, all []sourcetest.Datagram) (records []essence) {
	templates := map[netip.Addr]goflow.NetFlowTemplateSystem{}
	for _, g := range all {
		if g.Data[1] == 5 {
			var p netflowlegacy.PacketNetFlowV5
			if err := netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(g.Data), &p); err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Records {
				a := func(n netflowlegacy.IPAddress) netip.Addr {
					return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n))))
				}
				records = append(records, essence{a(r.SrcAddr), a(r.DstAddr), r.SrcPort, r.DstPort, flow.Proto(r.Proto), uint64(r.DPkts), uint64(r.DOctets), flow.TCPFlags(r.TCPFlags)})
			}
			continue
		}
		if templates[g.From] == nil {
			templates[g.From] = goflow.CreateTemplateSystem()
		}
		var p9 goflow.NFv9Packet
		var p10 goflow.IPFIXPacket
		// It reports unknown templates as errors, but goes on.
		_ = goflow.DecodeMessageVersion(bytes.NewBuffer(g.Data), templates[g.From], &p9, &p10)
		for _, s := range append(p9.FlowSets, p10.FlowSets...) {
			if data, ok := s.(goflow.DataFlowSet); ok {
				for _, r := range data.Records {
					if e, ok := essenceOf(r.Values); ok {
						records = append(records, e)
					}
				}
			}
		}
	}
	return records
}

func essenceOf(fields []goflow.DataField) (e essence, ok bool) {
	// Deltas come after totals, so that they win.
	fields = slices.Clone(fields)
	slices.SortStableFunc(fields, func(a, b goflow.DataField) int {
		total := func(f goflow.DataField) int {
			if f.Type == 85 || f.Type == 86 {
				return 0
			}
			return 1
		}
		return total(a) - total(b)
	})
	for _, f := range fields {
		b := f.Value.([]byte)
		if f.PenProvided && f.Pen == certEnterprise && (f.Type == 14 || f.Type == 15) {
			e.flags |= flow.TCPFlags(b[0])
		}
		if f.PenProvided || len(b) == 0 {
			continue
		}
		var n uint64
		for _, c := range b[max(0, len(b)-8):] {
			n = n<<8 | uint64(c)
		}
		addr, _ := netip.AddrFromSlice(b)
		switch f.Type {
		case 8, 27:
			if !e.orig.IsValid() || !addr.IsUnspecified() {
				e.orig = addr.Unmap()
			}
		case 12, 28:
			if !e.resp.IsValid() || !addr.IsUnspecified() {
				e.resp = addr.Unmap()
			}
		case 7, 180, 182:
			e.srcPort = uint16(n)
		case 11, 181, 183:
			e.dstPort = uint16(n)
		case 4:
			e.proto = flow.Proto(n)
		case 1, 85, 231:
			e.octets = n
		case 2, 86, 298:
			e.packets = n
		case 6:
			e.flags = flow.TCPFlags(n)
		}
	}
	return e, e.orig.IsValid() && e.resp.IsValid()
}

func (e essence) comparable() essence {
	if e.proto != flow.TCP {
		e.flags = 0
	}
	if e.proto == flow.ICMP || e.proto == flow.ICMPv6 {
		e.srcPort, e.dstPort = 0, 0 // ours are types
	}
	return e
}

// TestAgainstGoflow2 decodes all captures with goflow2, an independent decoder,
// and compares every record.
func TestAgainstGoflow2(t *testing.T) {
	compared := 0
	for _, file := range captures(t) {
		all := datagramsOf(t, file)
		if filepath.Base(file) == "logstash_netflow_datagrams.pcap" {
			// It holds datagrams made to be wrong, of which goflow2 keeps nothing.
			all = slices.DeleteFunc(all, func(g sourcetest.Datagram) bool {
				return New(DefaultConfiguration()).Decode(0, home, g.Data, func(*biflow.Record) {}) != nil
			})
		}
		want := ofGoflow2(t, all)
		got := decode(New(DefaultConfiguration()), all)
		if len(got) != len(want) {
			t.Errorf("%s: %d records, goflow2 has %d", filepath.Base(file), len(got), len(want))
			continue
		}
		for i, r := range got {
			e := essence{r.Orig, r.Resp, r.OrigPort, r.RespPort, r.Proto, r.OrigPkts, r.OrigIPBytes, r.OrigFlags}.comparable()
			if e != want[i].comparable() {
				t.Errorf("%s: record %d is %+v, for goflow2 %+v", filepath.Base(file), i, e, want[i])
				break
			}
			compared++
		}
	}
	if compared < 8000 {
		t.Errorf("compared only %d records", compared)
	}
}
