package packets

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// traffic is a synthetic capture on Ethernet: sessions of 3 to 40 data
// segments, scans that get no answer, and name look-ups, mixed in time.
func traffic(b *testing.B, packets int) (file []byte, count int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	file = []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x01\x00\x00\x00")
	serialize := gopacket.NewSerializeBuffer()
	var waiting [][]*packet.Packet
	for count < packets {
		for len(waiting) < 200 {
			waiting = append(waiting, someSession(rng))
		}
		i := rng.IntN(len(waiting))
		p := waiting[i][0]
		if waiting[i] = waiting[i][1:]; len(waiting[i]) == 0 {
			waiting[i] = waiting[len(waiting)-1]
			waiting = waiting[:len(waiting)-1]
		}
		frame := onEthernet(b, serialize, p)
		micros := uint64(count) * 20
		for _, v := range []uint32{1_700_000_000 + uint32(micros/1e6), uint32(micros % 1e6), uint32(len(frame)), uint32(len(frame))} {
			file = binary.LittleEndian.AppendUint32(file, v)
		}
		file = append(file, frame...)
		count++
	}
	return file, count
}

func someSession(rng *rand.Rand) []*packet.Packet {
	host := netip.AddrFrom4([4]byte{10, 1, byte(rng.IntN(256)), byte(rng.IntN(256))})
	from := netip.AddrPortFrom(host, uint16(20000+rng.IntN(40000)))
	var packets []*packet.Packet
	switch rng.IntN(10) {
	case 0, 1, 2:
		return []*packet.Packet{tcpPacket(from, bob, rng.Uint32(), 0, flow.SYN, 0)}
	case 3, 4:
		dns := netip.AddrPortFrom(bob.Addr(), 53)
		return []*packet.Packet{udpPacket(from, dns, 40), udpPacket(dns, from, 120)}
	}
	var sizes [2][]int
	for i := range sizes {
		for range 2 + rng.IntN(20) {
			sizes[i] = append(sizes[i], 1+rng.IntN(1460))
		}
	}
	for _, p := range session(rng, sizes, [2]uint32{rng.Uint32(), rng.Uint32()}) {
		if p.Src == alice.Addr() {
			p.Src, p.SrcPort = from.Addr(), from.Port()
		} else {
			p.Dst, p.DstPort = from.Addr(), from.Port()
		}
		packets = append(packets, p)
	}
	return packets
}

func onEthernet(b *testing.B, out gopacket.SerializeBuffer, p *packet.Packet) []byte {
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocol(p.Proto), SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
	var l gopacket.SerializableLayer
	if p.Proto == flow.TCP {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.SrcPort), DstPort: layers.TCPPort(p.DstPort), Seq: p.Seq, Ack: p.Ack, Window: p.Window,
			FIN: p.Flags&flow.FIN != 0, SYN: p.Flags&flow.SYN != 0, ACK: p.Flags&flow.ACK != 0, PSH: p.Flags&flow.PSH != 0}
		tcp.SetNetworkLayerForChecksum(ip)
		l = tcp
	} else {
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.SrcPort), DstPort: layers.UDPPort(p.DstPort)}
		udp.SetNetworkLayerForChecksum(ip)
		l = udp
	}
	err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, l, gopacket.Payload(p.Payload))
	if err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// perPacket reports packets per second over all iterations.
func perPacket(b *testing.B, packets int) {
	b.ReportMetric(float64(packets)*float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}

// BenchmarkRead compares reading a file's packets.
func BenchmarkRead(b *testing.B) {
	file, packets := traffic(b, 100_000)
	b.Run("dragnet", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			r, err := capture.NewReader(bytes.NewReader(file))
			for err == nil {
				_, err = r.Next()
			}
			if err != io.EOF {
				b.Fatal(err)
			}
		}
		perPacket(b, packets)
	})
	b.Run("pcapgo", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			r, err := pcapgo.NewReader(bytes.NewReader(file))
			for err == nil {
				_, _, err = r.ZeroCopyReadPacketData()
			}
			if err != io.EOF {
				b.Fatal(err)
			}
		}
		perPacket(b, packets)
	})
}

// BenchmarkDecode compares decoding frames that are in memory.
func BenchmarkDecode(b *testing.B) {
	file, packets := traffic(b, 20_000)
	var frames [][]byte
	r, err := capture.NewReader(bytes.NewReader(file))
	for err == nil {
		var rec capture.Record
		if rec, err = r.Next(); err == nil {
			frames = append(frames, bytes.Clone(rec.Data))
		}
	}
	b.Run("dragnet", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		b.ReportAllocs()
		var p packet.Packet
		for b.Loop() {
			for _, f := range frames {
				if err := p.Decode(packet.LinkEthernet, f, len(f)); err != nil {
					b.Fatal(err)
				}
			}
		}
		perPacket(b, packets)
	})
	b.Run("gopacket", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		b.ReportAllocs()
		var eth layers.Ethernet
		var ip layers.IPv4
		var tcp layers.TCP
		var udp layers.UDP
		parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &eth, &ip, &tcp, &udp)
		parser.IgnoreUnsupported = true
		var seen []gopacket.LayerType
		for b.Loop() {
			for _, f := range frames {
				if err := parser.DecodeLayers(f, &seen); err != nil {
					b.Fatal(err)
				}
			}
		}
		perPacket(b, packets)
	})
}

// BenchmarkFlows compares making flows of a file with tshark's conversations.
func BenchmarkFlows(b *testing.B) {
	file, packets := traffic(b, 200_000)
	path := write(b, filepath.Join(b.TempDir(), "traffic.pcap"), file)
	scan := func(b *testing.B, checksums Checksums) {
		b.SetBytes(int64(len(file)))
		b.ReportAllocs()
		var flows uint64
		for b.Loop() {
			l, err := Open(path)
			if err != nil {
				b.Fatal(err)
			}
			l.Checksums = checksums
			cov, err := l.Scan(context.Background(), flow.AllTime, flow.AllColumns, func([]flow.Flow) error { return nil })
			if err != nil || cov.Skipped > 0 {
				b.Fatal(err, cov)
			}
			flows = cov.Flows
		}
		perPacket(b, packets)
		b.ReportMetric(float64(flows), "flows")
	}
	b.Run("dragnet", func(b *testing.B) { scan(b, VerifyChecksums) })
	b.Run("dragnet-no-checksums", func(b *testing.B) { scan(b, IgnoreChecksums) })
	b.Run("tshark", func(b *testing.B) {
		tshark := testkit.Tool(b, "tshark")
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			if out, err := exec.Command(tshark, "-n", "-r", path, "-q", "-z", "conv,tcp", "-z", "conv,udp").CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
		perPacket(b, packets)
	})
}
