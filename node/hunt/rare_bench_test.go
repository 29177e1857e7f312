package hunt_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dragnet/ask/witness"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/node/hunt"
	"dragnet/node/ingest"
	"dragnet/store/disk"
)

// manyFlows is a store with DRAGNET_BENCH_FLOWS flows, or a million, made of a real log
// as in package disk's benchmarks: kept in DRAGNET_BENCH_DIR if that is set.
func manyFlows(b *testing.B) *disk.Store {
	dir := os.Getenv("DRAGNET_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	if !disk.Is(dir) {
		n, err := strconv.Atoi(os.Getenv("DRAGNET_BENCH_FLOWS"))
		if err != nil {
			n = 1_000_000
		}
		multiply(b, dir, n)
	}
	s, err := disk.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// multiply stores the flows of a real log many times, each time from other scanners and
// against another server of the network.
func multiply(b *testing.B, dir string, n int) {
	log, err := ingest.Open(testkit.Data(b, "zeek-logs", "missing_host"))
	if err != nil {
		b.Fatal(err)
	}
	w, err := disk.NewWriter(dir, "2026-11-22")
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	const real = 105_918
	var mu sync.Mutex
	var some []flow.Flow
	_, err = log.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range batch {
			some = some[:0]
			for c := range max(1, n/real) {
				if f.Orig.Is4() && f.Resp.Is4() {
					x, y := f.Orig.As4(), f.Resp.As4()
					binary.BigEndian.PutUint32(x[:], binary.BigEndian.Uint32(x[:])^uint32(c*40503)&0xffff)
					y[3] = byte(c)
					f.Orig, f.Resp = netip.AddrFrom4(x), netip.AddrFrom4(y)
				}
				some = append(some, f)
			}
			if err := w.Append(context.Background(), some); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// byKeyOnly hides that a store can leave out hosts, as a log that cannot would.
type byKeyOnly struct{ witness.Indexed }

// BenchmarkRareThenCommon is a whole hunt for a rare clue and then one without an
// address, which fits an eighth of all flows, with and without leaving out hosts early.
func BenchmarkRareThenCommon(b *testing.B) {
	s := manyFlows(b)
	p, err := pattern.Parse("out dst=64.225.56.7 dport=22 proto=tcp then[1h] out dport=80 proto=tcp", pattern.NoFiles)
	if err != nil {
		b.Fatal(err)
	}
	c := configuration(nil)
	c.Detective.Hash.Bits = uint8(key.DefaultBits(100, p.Clues[0].Tuples()[0].Mask, p.Clues[1].Tuples()[0].Mask))
	for _, way := range []struct {
		name string
		log  flow.Log
	}{{"by host", s}, {"by key only", byKeyOnly{s}}} {
		b.Run(way.name, func(b *testing.B) {
			var peak atomic.Uint64
			done := make(chan struct{})
			go watchHeap(&peak, done)
			before := processorTime()
			for b.Loop() {
				out, err := hunt.Run(context.Background(), c, p, []hunt.NamedLog{{Name: "w", Log: way.log}})
				if err != nil {
					b.Fatal(err)
				}
				if r := out.Result.Witnesses[0].Refused; r != "" {
					b.Fatalf("refused: %s", r)
				}
				b.ReportMetric(float64(len(out.Result.Hosts)), "hosts")
				b.ReportMetric(float64(out.Result.Witnesses[0].Flows)/1e6, "Mflows")
			}
			close(done)
			b.ReportMetric((processorTime()-before).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(peak.Load())/1e6, "peak-heap-MB")
			b.ReportMetric(float64(c.Detective.Hash.Bits), "bits")
		})
	}
}

func watchHeap(peak *atomic.Uint64, done chan struct{}) {
	runtime.GC()
	for {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak.Store(max(peak.Load(), m.HeapInuse))
		select {
		case <-done:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var _ witness.IndexedByHost = (*disk.Store)(nil)
