package survey

import (
	"context"
	"testing"

	"dragnet/flow"
	"dragnet/flow/key"
)

// manyTuples is a log of n flows with as many tuples, and each of them twice.
func manyTuples(n int) []packed {
	all := make([]packed, n)
	for i := range all {
		v := uint32(i/2) * 2654435761
		all[i] = packed{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v), 19: byte(i >> 3), 20: 6}
	}
	return all
}

// BenchmarkCount compares counting tuples here with a Go map of the same
// values.
func BenchmarkCount(b *testing.B) {
	log := manyTuples(1 << 20)
	b.Run("table", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			t := newTable()
			for i := range log {
				if err := t.add(&log[i]); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.N)*float64(len(log))/b.Elapsed().Seconds()/1e6, "Mflows/s")
	})
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			m := map[packed]uint32{}
			for i := range log {
				m[log[i]]++
			}
		}
		b.ReportMetric(float64(b.N)*float64(len(log))/b.Elapsed().Seconds()/1e6, "Mflows/s")
	})
}

// BenchmarkHash is one hash over a log's tuples: keys, sorting, distribution.
func BenchmarkHash(b *testing.B) {
	s := &surveyor{Configuration: DefaultConfiguration(), tuples: newTable(), pace: []flow.Flow{{}}}
	s.Progress, s.Asked = func(string, int) {}, 0
	for _, p := range manyTuples(1 << 20) {
		if err := s.tuples.add(&p); err != nil {
			b.Fatal(err)
		}
	}
	all := make([]keyed, s.tuples.n)
	for _, h := range []key.Hash{{Kind: key.Product}, {Kind: key.Linear, Bits: 16}} {
		b.Run(h.Kind.String(), func(b *testing.B) {
			for range b.N {
				if _, err := s.surveyHash(context.Background(), 0, h, all); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(s.tuples.n)/b.Elapsed().Seconds()/1e6, "Mtuples/s")
		})
	}
}
