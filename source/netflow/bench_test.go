package netflow

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"testing"

	goflow "github.com/netsampler/goflow2/v2/decoders/netflow"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/sourcetest"
)

// BenchmarkDecode decodes softflowd's datagrams of version 9; "joined" makes
// flows of the records, "goflow2" is that decoder alone, "goflow2, printed"
// with its datagrams written as JSON. One op is one datagram.
func BenchmarkDecode(b *testing.B) {
	all := datagramsOf(b, testkit.Data(b, "exports", "softflowd_xscan_v9.pcap"))
	run := func(name string, decode func(sourcetest.Datagram) int) {
		b.Run(name, func(b *testing.B) {
			records := 0
			b.ReportAllocs()
			for i := range b.N {
				records += decode(all[i%len(all)])
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
	d := New(DefaultConfiguration())
	run("decoded", func(g sourcetest.Datagram) (n int) {
		_ = d.Decode(g.At, g.From, g.Data, func(*biflow.Record) { n++ })
		return n
	})
	j := biflow.New(biflow.DefaultConfiguration(), func(*flow.Flow) {})
	now := flow.Time(0)
	run("joined", func(g sourcetest.Datagram) (n int) {
		now += 1e7
		_ = d.Decode(now, g.From, g.Data, func(r *biflow.Record) {
			n++
			r.Start = now
			j.Add(now, r)
		})
		return n
	})
	templates := map[netip.Addr]goflow.NetFlowTemplateSystem{}
	of := func(g sourcetest.Datagram, w io.Writer) (n int) {
		if templates[g.From] == nil {
			templates[g.From] = goflow.CreateTemplateSystem()
		}
		var p9 goflow.NFv9Packet
		var p10 goflow.IPFIXPacket
		_ = goflow.DecodeMessageVersion(bytes.NewBuffer(g.Data), templates[g.From], &p9, &p10)
		for _, s := range p9.FlowSets {
			if data, ok := s.(goflow.DataFlowSet); ok {
				n += len(data.Records)
			}
		}
		if w != nil {
			_ = json.NewEncoder(w).Encode(&p9)
		}
		return n
	}
	run("goflow2", func(g sourcetest.Datagram) int { return of(g, nil) })
	run("goflow2, printed", func(g sourcetest.Datagram) int { return of(g, io.Discard) })
}
