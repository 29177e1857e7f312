package sflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	goflow "github.com/netsampler/goflow2/v2/decoders/sflow"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/sourcetest"
)

// essence is what both decoders know of a sample.
type essence struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	rate, length     uint32
}

// ofGoflow2 decodes a datagram with goflow2 and its headers with gopacket.
func ofGoflow2(t testing.TB, datagram []byte) (all []essence, interfaces []Interface) {
	var p goflow.Packet
	if err := goflow.DecodeMessageVersion(bytes.NewBuffer(datagram), &p); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Samples {
		switch s := s.(type) {
		case goflow.FlowSample:
			for _, r := range s.Records {
				if h, ok := r.Data.(goflow.SampledHeader); ok {
					if e, ok := essenceOf(h); ok {
						e.rate = s.SamplingRate
						all = append(all, e)
					}
				}
			}
		case goflow.CounterSample:
			for _, r := range s.Records {
				if c, ok := r.Data.(goflow.IfCounters); ok {
					interfaces = append(interfaces, Interface{Index: c.IfIndex, Speed: c.IfSpeed, InOctets: c.IfInOctets, OutOctets: c.IfOutOctets,
						InPackets: c.IfInUcastPkts, OutPackets: c.IfOutUcastPkts, InDiscards: c.IfInDiscards, OutDiscards: c.IfOutDiscards,
						InErrors: c.IfInErrors, OutErrors: c.IfOutErrors})
				}
			}
		}
	}
	return all, interfaces
}

func essenceOf(h goflow.SampledHeader) (e essence, ok bool) {
	p := gopacket.NewPacket(h.HeaderData, layers.LayerTypeEthernet, gopacket.Default)
	switch l := p.NetworkLayer().(type) {
	case *layers.IPv4:
		e.src, _ = netip.AddrFromSlice(l.SrcIP)
		e.dst, _ = netip.AddrFromSlice(l.DstIP)
		e.length = uint32(l.Length)
	case *layers.IPv6:
		e.src, _ = netip.AddrFromSlice(l.SrcIP)
		e.dst, _ = netip.AddrFromSlice(l.DstIP)
		e.length = uint32(l.Length) + 40
	default:
		return e, false
	}
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		e.srcPort, e.dstPort = uint16(l.SrcPort), uint16(l.DstPort)
	case *layers.UDP:
		e.srcPort, e.dstPort = uint16(l.SrcPort), uint16(l.DstPort)
	}
	return e, true
}

// TestAgainstGoflow2 compares all samples with what goflow2 and gopacket make
// of them.
func TestAgainstGoflow2(t *testing.T) {
	samples, counters := 0, 0
	for _, file := range []string{testkit.Data(t, "ndpi", "sflow.pcap"), testkit.Data(t, "exports", "ovs-netflow-sflow-ipfix.pcap.gz")} {
		d := New(DefaultConfiguration())
		var interfaces []Interface
		d.Interfaces = func(i Interface) { interfaces = append(interfaces, i) }
		for n, g := range sourcetest.Datagrams(t, file, Is) {
			var got []essence
			interfaces = nil
			err := d.Decode(g.At, g.From, g.Data, func(r *biflow.Record) {
				e := essence{r.Orig, r.Resp, r.OrigPort, r.RespPort, r.Sampling, uint32(r.OrigIPBytes)}
				if r.Proto == flow.ICMP || r.Proto == flow.ICMPv6 {
					e.srcPort, e.dstPort = 0, 0 // ours are types
				}
				got = append(got, e)
			})
			if err != nil {
				t.Fatalf("%s: %d: %v", file, n, err)
			}
			want, wantInterfaces := ofGoflow2(t, g.Data)
			if len(got) != len(want) || len(interfaces) != len(wantInterfaces) {
				t.Fatalf("%s: datagram %d: %d samples and %d counters, want %d and %d", file, n, len(got), len(interfaces), len(want), len(wantInterfaces))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s: datagram %d: %+v, want %+v", file, n, got[i], want[i])
				}
			}
			for i := range interfaces {
				if interfaces[i].Exporter = (netip.Addr{}); interfaces[i] != wantInterfaces[i] {
					t.Errorf("%s: datagram %d: %+v, want %+v", file, n, interfaces[i], wantInterfaces[i])
				}
			}
			samples += len(got)
			counters += len(interfaces)
		}
		for from, c := range d.Counters() {
			if c.Malformed+c.Lost+c.Restarts > 0 {
				t.Errorf("%s: %s: %+v", file, from, c)
			}
		}
	}
	if samples < 1000 || counters < 100 {
		t.Errorf("compared only %d samples and %d counters", samples, counters)
	}
}

// words makes a datagram of words of 32 bits.
func words(numbers ...uint32) (b []byte) {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

var home = netip.MustParseAddr("192.0.2.1")

// sampled is a datagram of an expanded flow sample that the exporter decoded.
func sampled(number, drops uint32) []byte {
	return words(5, 1, 0xc0000201, 3, number, 0, 1,
		expandedFlowSample, 4*(11+2+8), 1, 0, 7, 64, 6400, drops, 0, 1, 0, 2, 1,
		sampledIPv4, 32, 60, 6, 0x0a000001, 0x0a000002, 40000, 22, 2, 0)
}

func TestExpandedSamples(t *testing.T) {
	d := New(DefaultConfiguration())
	var got []biflow.Record
	for i, drops := range []uint32{5, 9, 2, 3} {
		number := uint32(i) + 1
		if i == 3 {
			number += 10
		}
		if err := d.Decode(9, home, sampled(number, drops), func(r *biflow.Record) { got = append(got, *r) }); err != nil {
			t.Fatal(err)
		}
	}
	r := got[0]
	if r.Orig.String() != "10.0.0.1" || r.RespPort != 22 || r.OrigFlags != flow.SYN || r.Sampling != 64 || r.Domain != 3 || r.Start != 9 || r.OrigIPBytes != 60 {
		t.Errorf("%+v", r)
	}
	if c := d.Counters()[home]; c.Lost != 10 || c.Dropped != 5 || c.Records != 4 {
		t.Errorf("%+v", c)
	}
}

func TestDatagramsThatLie(t *testing.T) {
	whole := sampled(1, 0)
	for n := range whole {
		if n%4 == 0 && n > 4 && New(DefaultConfiguration()).Decode(0, home, whole[:n], func(*biflow.Record) {}) != ErrTruncated {
			t.Errorf("%d bytes were taken as whole", n)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":               {nil, ErrVersion},
		"version 4":           {words(4, 1, 0, 0, 0, 0, 0), ErrVersion},
		"agent of no kind":    {words(5, 3, 0, 0, 0, 0, 0), ErrAddress},
		"2^32-1 samples":      {words(5, 1, 0, 0, 0, 0, 1<<32-1), ErrTruncated},
		"sample of 4 GB":      {words(5, 1, 0, 0, 0, 0, 1, flowSample, 1<<32-1), ErrTruncated},
		"2^32-1 records":      {words(5, 1, 0, 0, 0, 0, 1, flowSample, 32, 1, 1, 1, 1, 1, 1, 1, 1<<32-1), ErrTruncated},
		"2^32-1 of a counter": {words(5, 1, 0, 0, 0, 0, 1, counterSample, 12, 1, 1, 1<<32-1), ErrTruncated},
		"another enterprise":  {words(5, 1, 0, 0, 0, 0, 1, 1<<12|1, 4, 1), nil},
	} {
		d := New(DefaultConfiguration())
		if err := d.Decode(0, home, c.data, func(*biflow.Record) {}); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	d := New(Configuration{MaxExporters: 2, MaxSources: 3})
	for i := range 100 {
		b := sampled(1, 0)
		binary.BigEndian.PutUint32(b[12:], uint32(i))
		err := d.Decode(0, netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 10)}), b, func(*biflow.Record) {})
		if (err == ErrBound) != (i%10 >= 2) {
			t.Fatal(err)
		}
	}
	for _, e := range d.exporters.All() {
		if len(e.agents) != 3 || len(e.drops) != 3 {
			t.Errorf("%d agents, %d sources", len(e.agents), len(e.drops))
		}
	}
	if d.Refused != 80 || d.exporters.Len() != 2 {
		t.Errorf("%d refused, %d exporters", d.Refused, d.exporters.Len())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sampled(1, 0))
	if os.Getenv("DRAGNET_DATA") != "" {
		for _, g := range sourcetest.Datagrams(f, testkit.Data(f, "ndpi", "sflow.pcap"), Is) {
			f.Add(g.Data)
		}
		for i, g := range sourcetest.Datagrams(f, testkit.Data(f, "exports", "ovs-netflow-sflow-ipfix.pcap.gz"), Is) {
			if i%100 == 0 {
				f.Add(g.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := New(Configuration{MaxExporters: 1, MaxSources: 2})
		d.Interfaces = func(Interface) {}
		records := 0
		err := d.Decode(0, home, b, func(r *biflow.Record) {
			records++
			if !r.Orig.IsValid() || !r.Resp.IsValid() {
				t.Fatalf("%+v", r)
			}
		})
		if err != nil && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrAddress) {
			t.Fatal(err)
		}
		if records > len(b)/32 {
			t.Fatalf("%d records of %d bytes", records, len(b))
		}
	})
}
