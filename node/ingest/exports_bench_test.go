package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	goflow "github.com/netsampler/goflow2/v2/decoders/netflow"
	goflowsflow "github.com/netsampler/goflow2/v2/decoders/sflow"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
	"dragnet/store/disk"
)

// perDatagram is how many records a datagram has: as many as fit an Ethernet frame
// of NetFlow version 9 with these fields, and six samples of sFlow.
const (
	perDatagram = 36
	samples     = 6
)

// conversation writes the ends of a conversation, the other way round for odd n.
func conversation(b []byte, n int) {
	src, dst := [4]byte{10, byte(n >> 18), byte(n >> 10), byte(n >> 2)}, [4]byte{198, 51, byte(n >> 9), byte(n >> 1)}
	sport, dport := uint16(32768+n>>1&0x7fff), uint16(443)
	if n&1 == 1 {
		src, dst, sport, dport = dst, src, dport, sport
	}
	copy(b, src[:])
	copy(b[4:], dst[:])
	binary.BigEndian.PutUint16(b[8:], sport)
	binary.BigEndian.PutUint16(b[10:], dport)
}

// fields are those of the template: addresses, ports, protocol, flags, packets,
// bytes, first and last in milliseconds of uptime.
var fields = []uint16{8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 6, 1, 2, 4, 1, 4, 22, 4, 21, 4}

const recordSize = 4 + 4 + 2 + 2 + 1 + 1 + 4 + 4 + 4 + 4

// datagrams makes n of NetFlow version 9, or of IPFIX; the first has the template.
func datagrams(version uint16, n int) (all [][]byte) {
	for i := range n {
		var b []byte
		set, header := uint16(0), 20
		if version == 10 {
			set, header = 2, 16
		}
		b = make([]byte, header)
		if i == 0 {
			b = binary.BigEndian.AppendUint16(b, set)
			b = binary.BigEndian.AppendUint16(b, uint16(8+2*len(fields)))
			b = binary.BigEndian.AppendUint16(b, 256)
			b = binary.BigEndian.AppendUint16(b, uint16(len(fields)/2))
			for k, f := range fields {
				if version == 10 && k%2 == 0 && f >= 21 && f <= 22 {
					f = 150 + 22 - f // flowStartSeconds, flowEndSeconds
				}
				b = binary.BigEndian.AppendUint16(b, f)
			}
		}
		b = binary.BigEndian.AppendUint16(b, 256)
		b = binary.BigEndian.AppendUint16(b, 4+perDatagram*recordSize)
		for k := range perDatagram {
			var r [recordSize]byte
			conversation(r[:], i*perDatagram+k)
			r[12], r[13] = 6, 0x1b
			binary.BigEndian.PutUint32(r[14:], 10)
			binary.BigEndian.PutUint32(r[18:], 5000)
			binary.BigEndian.PutUint32(r[22:], 1_795_600_000)
			binary.BigEndian.PutUint32(r[26:], 1_795_600_000)
			b = append(b, r[:]...)
		}
		binary.BigEndian.PutUint16(b, version)
		if version == 10 {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			binary.BigEndian.PutUint32(b[4:], 1_795_600_000)
			binary.BigEndian.PutUint32(b[8:], uint32(i*perDatagram))
		} else {
			binary.BigEndian.PutUint16(b[2:], perDatagram)
			binary.BigEndian.PutUint32(b[4:], 1_795_600_000)
			binary.BigEndian.PutUint32(b[8:], 1_795_600_000)
			binary.BigEndian.PutUint32(b[12:], uint32(i))
		}
		all = append(all, b)
	}
	return all
}

// sampled makes n datagrams of sFlow, of packets with 64 bytes of header.
func sampled(n int) (all [][]byte) {
	word := func(b []byte, n ...uint32) []byte {
		for _, w := range n {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		return b
	}
	for i := range n {
		b := word(nil, 5, 1, 0xc0000201, 0, uint32(i), 1000, samples)
		for k := range samples {
			frame := make([]byte, 64)
			copy(frame[12:], []byte{8, 0, 0x45, 0, 0, 200, 0, 0, 0, 0, 64, 6})
			conversation(frame[26:], i*samples+k)
			frame[34+12], frame[34+13] = 0x50, 0x18
			record := word(nil, 1, 16+64, 1, 218, 4, 64)
			record = append(record, frame...)
			sample := word(nil, uint32(i*samples+k), 1, 1000, 0, 0, 1, 2, 1)
			sample = append(sample, record...)
			b = word(b, 1, uint32(len(sample)))
			b = append(b, sample...)
		}
		all = append(all, b)
	}
	return all
}

const laps = 1 << 12 // datagrams that are made, and sent over again

// BenchmarkExports takes datagrams to stored flows: decoded and joined in one
// goroutine, stored and indexed in others, as the node does; "goflow2" decodes the
// same datagrams and prints them as JSON, as its program does, on all cores. One
// op is one datagram.
func BenchmarkExports(b *testing.B) {
	for _, c := range []struct {
		name      string
		datagrams [][]byte
	}{{"netflow9", datagrams(9, laps)}, {"ipfix", datagrams(10, laps)}, {"sflow", sampled(laps)}} {
		per := perDatagram
		if c.name == "sflow" {
			per = samples
		}
		b.Run("store/"+c.name, func(b *testing.B) {
			flows := storeExports(b, c.datagrams)
			b.ReportMetric(float64(b.N*per)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(flows)/b.Elapsed().Seconds(), "flows/s")
		})
		b.Run("goflow2/"+c.name, func(b *testing.B) {
			printExports(b, c.datagrams)
			b.ReportMetric(float64(b.N*per)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func storeExports(b *testing.B, all [][]byte) (flows uint64) {
	b.Helper()
	w, err := disk.NewWriter(filepath.Join(b.TempDir(), "data"), epoch)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	ctx := context.Background()
	full, empty := make(chan []flow.Flow, 4), make(chan []flow.Flow, 8)
	stored := make(chan uint64)
	go func() {
		n := uint64(0)
		for batch := range full {
			if err := w.Append(ctx, batch); err != nil {
				b.Error(err)
			}
			n += uint64(len(batch))
			empty <- batch[:0]
		}
		if err := w.Commit(); err != nil {
			b.Error(err)
		}
		stored <- n
	}()
	const size = 1 << 13
	for range cap(empty) - 2 {
		empty <- make([]flow.Flow, 0, size)
	}
	batch := <-empty
	join := biflow.New(biflow.DefaultConfiguration(), func(f *flow.Flow) {
		if batch = append(batch, *f); len(batch) == size {
			full <- batch
			batch = <-empty
		}
	})
	now, from := flow.Time(1_795_600_000e9), netip.MustParseAddr("192.0.2.1")
	emit := func(r *biflow.Record) { join.Add(now, r) }
	nf, sf := netflow.New(netflow.DefaultConfiguration()), sflow.New(sflow.DefaultConfiguration())
	b.ResetTimer()
	for i := range b.N {
		g := all[i%len(all)]
		if netflow.Is(g) {
			err = nf.Decode(now, from, g, emit)
		} else {
			err = sf.Decode(now, from, g, emit)
		}
		if err != nil {
			b.Fatal(err)
		}
		// A lap takes longer than conversations are held.
		now += flow.Time(200*time.Second) / laps
	}
	join.Flush()
	full <- batch
	close(full)
	return <-stored
}

func printExports(b *testing.B, all [][]byte) {
	b.Helper()
	config, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		b.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(config, protoproducer.CreateSamplingSystem)
	if err != nil {
		b.Fatal(err)
	}
	templates := goflow.CreateTemplateSystem()
	args := &producer.ProduceArgs{Src: netip.MustParseAddrPort("192.0.2.1:2055"), SamplerAddress: netip.MustParseAddr("192.0.2.1"), TimeReceived: time.Now()}
	one := func(g []byte) (int, error) {
		var message any
		var err error
		switch {
		case g[1] == 9 || g[1] == 10:
			var p9 goflow.NFv9Packet
			var p10 goflow.IPFIXPacket
			if err = goflow.DecodeMessageVersion(bytes.NewBuffer(g), templates, &p9, &p10); g[1] == 9 {
				message = &p9
			} else {
				message = &p10
			}
		default:
			var s goflowsflow.Packet
			err = goflowsflow.DecodeMessageVersion(bytes.NewBuffer(g), &s)
			message = &s
		}
		if err != nil {
			return 0, err
		}
		messages, err := p.Produce(message, args)
		size := 0
		for _, m := range messages {
			text, err := m.(interface{ MarshalJSON() ([]byte, error) }).MarshalJSON()
			if err != nil {
				return 0, err
			}
			size += len(text)
		}
		p.Commit(messages)
		return size, err
	}
	if _, err := one(all[0]); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if n, err := one(all[i%len(all)]); err != nil || n == 0 {
				b.Error(n, err)
				return
			}
		}
	})
}
