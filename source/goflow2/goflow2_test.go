package goflow2

import (
	"bytes"
	"net/netip"
	"os"
	"testing"
	"time"

	decoder "github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	flowpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/proto"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sourcetest"
)

// produce has goflow2 decode datagrams and write its messages, as it does to a
// topic.
func produce(t testing.TB, all []sourcetest.Datagram, from netip.Addr, at time.Time) (messages [][]byte) {
	t.Helper()
	compiled, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(compiled, protoproducer.CreateSamplingSystem)
	if err != nil {
		t.Fatal(err)
	}
	templates := decoder.CreateTemplateSystem()
	for _, g := range all {
		var packet any
		switch g.Data[1] {
		case 5:
			one := &netflowlegacy.PacketNetFlowV5{}
			err, packet = netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(g.Data), one), one
		case 9:
			one := &decoder.NFv9Packet{}
			err, packet = decoder.DecodeMessageVersion(bytes.NewBuffer(g.Data), templates, one, nil), one
		default:
			one := &decoder.IPFIXPacket{}
			err, packet = decoder.DecodeMessageVersion(bytes.NewBuffer(g.Data), templates, nil, one), one
		}
		if err != nil {
			t.Fatal(err)
		}
		made, err := p.Produce(packet, &producer.ProduceArgs{Src: netip.AddrPortFrom(from, 2055), SamplerAddress: from, TimeReceived: at})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made {
			b, err := m.(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, b)
		}
		p.Commit(made)
	}
	return messages
}

// TestAgainstOurDecoder: what goflow2 made of datagrams and wrote reads as what our
// decoder makes of the same datagrams.
func TestAgainstOurDecoder(t *testing.T) {
	from, now := netip.MustParseAddr("192.0.2.9"), time.Unix(1_790_000_000, 0)
	for _, file := range []string{"softflowd_xscan_v5.pcap", "softflowd_xscan_v9.pcap", "softflowd_xscan_v10.pcap"} {
		path := testkit.Data(t, "exports", file)
		all := sourcetest.Datagrams(t, path, netflow.Is)
		var want []biflow.Record
		d := netflow.New(netflow.DefaultConfiguration())
		for _, g := range all {
			if err := d.Decode(flow.FromTime(now), from, g.Data, func(r *biflow.Record) { want = append(want, *r) }); err != nil {
				t.Fatal(err)
			}
		}
		var got []biflow.Record
		for _, m := range produce(t, all, from, now) {
			if err := Read(m, func(at flow.Time, r *biflow.Record) {
				if at != flow.FromTime(now) {
					t.Fatalf("received %v", at)
				}
				got = append(got, *r)
			}); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != len(want) || len(got) == 0 {
			t.Fatalf("%s: %d records, %d by our decoder", file, len(got), len(want))
		}
		wrong := 0
		for i := range want {
			w, g := essence(want[i]), essence(got[i])
			if file != "softflowd_xscan_v5.pcap" {
				// softflowd's uptime wraps below 0, and of IPFIX goflow2 takes the time of
				// export: its start is up to 49.7 days off.
				g.Start, g.Duration, w.Start, w.Duration = 0, 0, 0, 0
			}
			if w != g {
				if wrong++; wrong < 4 {
					t.Errorf("%s, record %d:\n%+v, by our decoder\n%+v", file, i, g, w)
				}
			}
		}
	}
}

// essence is what goflow2's message can say: milliseconds of start, and neither
// the end's reason nor initial sequence numbers.
func essence(r biflow.Record) biflow.Record {
	r.Start -= r.Start % 1e6
	r.Duration -= r.Duration % time.Millisecond
	return biflow.Record{Flow: flow.Flow{
		Start: r.Start, Orig: r.Orig, Resp: r.Resp, OrigPort: r.OrigPort, RespPort: r.RespPort, Proto: r.Proto, OrigFlags: r.OrigFlags, Exporter: r.Exporter,
		OrigPkts: r.OrigPkts, OrigIPBytes: r.OrigIPBytes,
	}}
}

func message4() *flowpb.FlowMessage {
	return &flowpb.FlowMessage{
		Type: flowpb.FlowMessage_SFLOW_5, TimeReceivedNs: 1_700_000_000_000_000_000, SamplingRate: 64, SrcAddr: []byte{10, 0, 0, 1}, DstAddr: []byte{10, 0, 0, 2},
		SamplerAddress: []byte{192, 0, 2, 1}, Bytes: 60, Packets: 1, Proto: 6, SrcPort: 4000, DstPort: 80, TcpFlags: 2,
	}
}

func TestMessages(t *testing.T) {
	change := func(f func(*flowpb.FlowMessage)) []byte {
		m := message4()
		f(m)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := change(func(*flowpb.FlowMessage) {})
	prefixed := append([]byte{byte(len(plain))}, plain...)
	for name, c := range map[string]struct {
		b       []byte
		records int
		want    error
	}{
		"plain":              {plain, 1, nil},
		"with its length":    {prefixed, 1, nil},
		"a length too long":  {append([]byte{byte(len(plain) + 1)}, plain...), 0, ErrTruncated},
		"nothing":            {nil, 0, ErrAddress},
		"truncated":          {plain[:len(plain)-1], 0, ErrTruncated},
		"no destination":     {change(func(m *flowpb.FlowMessage) { m.DstAddr = nil }), 0, ErrAddress},
		"address of 5 bytes": {change(func(m *flowpb.FlowMessage) { m.SrcAddr = []byte("12345") }), 0, ErrAddress},
		"port of 65536":      {change(func(m *flowpb.FlowMessage) { m.DstPort = 65536 }), 0, ErrNumber},
		"protocol of 256":    {change(func(m *flowpb.FlowMessage) { m.Proto = 256 }), 0, ErrNumber},
		"rate of 2^32":       {change(func(m *flowpb.FlowMessage) { m.SamplingRate = 1 << 32 }), 0, ErrNumber},
		"no time":            {change(func(m *flowpb.FlowMessage) { m.TimeReceivedNs = 0 }), 0, ErrTime},
		"year 2500":          {change(func(m *flowpb.FlowMessage) { m.TimeFlowStartNs = 1 << 63 }), 0, ErrTime},
		"ends before":        {change(func(m *flowpb.FlowMessage) { m.TimeFlowStartNs, m.TimeFlowEndNs = 10, 5 }), 1, nil},
	} {
		n := 0
		err := Read(c.b, func(at flow.Time, r *biflow.Record) {
			n++
			if r.Orig != netip.MustParseAddr("10.0.0.1") || r.OrigFlags != flow.SYN || r.Sampling != 64 || r.Duration != 0 || r.OrigPkts != 1 {
				t.Errorf("%s: %+v", name, r)
			}
		})
		if err != c.want || n != c.records {
			t.Errorf("%s: %d records, %v; want %d, %v", name, n, err, c.records, c.want)
		}
	}
	icmp := change(func(m *flowpb.FlowMessage) { m.Proto, m.IcmpType, m.TcpFlags = 1, 8, 0 })
	if err := Read(icmp, func(_ flow.Time, r *biflow.Record) {
		if r.OrigPort != 8 || r.Known.Has(flow.Flags) {
			t.Errorf("%+v", r)
		}
	}); err != nil {
		t.Error(err)
	}
}

// TestNoMessageIsTakenForALength: whatever bytes an address or a port has, a message
// without its length is read as one. (A row of lengths was looked for once, and
// found by chance in one message of 256.)
func TestNoMessageIsTakenForALength(t *testing.T) {
	m := message4()
	for n := range 1 << 16 {
		m.SrcAddr, m.SrcPort = []byte{10, 0, byte(n >> 8), byte(n)}, uint32(n)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := Read(b, func(_ flow.Time, r *biflow.Record) {
			if r.OrigPort != uint16(n) {
				t.Fatalf("%d: %+v", n, r)
			}
		}); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	plain, err := proto.Marshal(message4())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(append([]byte{byte(len(plain))}, plain...))
	if dir := os.Getenv("DRAGNET_DATA"); dir != "" {
		for _, m := range produce(f, sourcetest.Datagrams(f, testkit.Data(f, "exports", "softflowd_xscan_v9.pcap"), netflow.Is)[:2], netip.MustParseAddr("192.0.2.9"), time.Unix(1_790_000_000, 0)) {
			f.Add(m)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		records := 0
		_ = Read(b, func(at flow.Time, r *biflow.Record) {
			if records++; !r.Orig.IsValid() || !r.Resp.IsValid() || r.Duration < 0 || r.End() < r.Start || at < 0 {
				t.Fatalf("%+v", r)
			}
		})
		if records > len(b)/8 { // a record has two addresses
			t.Fatalf("%d records of %d bytes", records, len(b))
		}
	})
}

func BenchmarkRead(b *testing.B) {
	m := produce(b, sourcetest.Datagrams(b, testkit.Data(b, "exports", "softflowd_xscan_v9.pcap"), netflow.Is)[:1], netip.MustParseAddr("192.0.2.9"), time.Unix(1_790_000_000, 0))[0]
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if err := Read(m, func(flow.Time, *biflow.Record) {}); err != nil {
			b.Fatal(err)
		}
	}
}
