package agents

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"dragnet/internal/spool"
	"dragnet/wire/channel"
)

// BenchmarkChannel sends items of 300 bytes, a hundred at a time, until the node
// has them all on its disk; beside it, the spool alone.
func BenchmarkChannel(b *testing.B) {
	const batch = 100
	b.Run("to the node", func(b *testing.B) {
		n := startNode(b, b.TempDir(), "127.0.0.1:0")
		n.handlers = map[string]Handler{"bench": {Roles: []string{"guard"}, Handle: numbers["test.number"].Handle}}
		a := startAgent(b, enrolled(b, n, "edge-1"))
		defer stop(b, a)
		items := make([]channel.Item, batch)
		for i := range items {
			items[i] = channel.Item{Kind: "bench", Body: append(bytes.Repeat([]byte("0"), 299), '1')}
		}
		for b.Loop() {
			if err := a.Send(items...); err != nil {
				b.Fatal(err)
			}
		}
		for a.Status().Waiting > 0 {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "items/s")
	})
	b.Run("spool alone", func(b *testing.B) {
		s, err := spool.Open(filepath.Join(b.TempDir(), "spool"), spool.Limits{Bytes: 64 << 20, Age: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		data := make([][]byte, batch)
		for i := range data {
			data[i] = make([]byte, 320)
		}
		for b.Loop() {
			if err := s.Append(time.Now(), data...); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "items/s")
	})
}
