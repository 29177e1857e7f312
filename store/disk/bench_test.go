package disk

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/source/zeek"
)

// realFlows is the 72 hours of missing_host in order of time.
var realFlows = sync.OnceValues(func() ([]flow.Flow, error) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("DRAGNET_DATA"), "zeek-logs", "missing_host", "*.gz"))
	if err != nil {
		return nil, err
	}
	log, err := zeek.Open(files...)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var all []flow.Flow
	_, err = log.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		all = append(all, batch...)
		mu.Unlock()
		return nil
	})
	slices.SortFunc(all, func(a, b flow.Flow) int { return int(a.Start - b.Start) })
	return all, err
})

// busy makes about n flows out of the real log: the same services, outcomes
// and sizes, from 2^16 times as many scanners against a /24.
func busy(t testing.TB, n int, fn func([]flow.Flow)) (total int) {
	testkit.Data(t, "zeek-logs", "missing_host")
	real, err := realFlows()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	copies := max(1, n/len(real))
	batch := make([]flow.Flow, 0, 1024)
	for _, f := range real {
		for c := range copies {
			g := f
			g.Start += flow.Time(rng.Int64N(int64(2*time.Second)) / 1000 * 1000)
			if g.Orig.Is4() && g.Resp.Is4() {
				a, b := g.Orig.As4(), g.Resp.As4()
				binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])^rng.Uint32N(1<<16))
				b[3] = byte(c)
				g.Orig, g.Resp = netip.AddrFrom4(a), netip.AddrFrom4(b)
			}
			g.OrigPort = uint16(1024 + rng.Uint32N(64512))
			g.Duration += time.Duration(rng.Int64N(1+int64(g.Duration)/4) / 1000 * 1000)
			if batch = append(batch, g); len(batch) == cap(batch) {
				fn(batch)
				total += len(batch)
				batch = batch[:0]
			}
		}
	}
	fn(batch)
	return total + len(batch)
}

const benchEpoch = "2026-11-22"

// benchFlows is how many flows the benchmarks store: DRAGNET_BENCH_FLOWS, or
// two million.
func benchFlows(b *testing.B) int {
	if s := os.Getenv("DRAGNET_BENCH_FLOWS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 2_000_000
}

func fill(b *testing.B, dir string, n int) *Store {
	b.Helper()
	s, err := OpenWriter(dir)
	if err != nil {
		b.Fatal(err)
	}
	w, err := s.NewWriter(benchEpoch)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	busy(b, n, func(batch []flow.Flow) {
		if err := w.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
	})
	if err := w.Commit(); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkAppend stores flows from memory; "generate" is the share of it that
// making them up takes.
func BenchmarkAppend(b *testing.B) {
	n := benchFlows(b)
	b.Run("generate", func(b *testing.B) {
		flows := 0
		for b.Loop() {
			flows += busy(b, n, func([]flow.Flow) {})
		}
		b.ReportMetric(float64(flows)/b.Elapsed().Seconds()/1e6, "Mflows/s")
	})
	b.Run("store", func(b *testing.B) {
		flows := uint64(0)
		for b.Loop() {
			s := fill(b, filepath.Join(b.TempDir(), strconv.Itoa(b.N)), n)
			stored := coverage(b, s).Flows
			flows += stored
			var seg, run int64
			for _, g := range s.Segments() {
				seg += g.Bytes
				run += g.RunBytes
			}
			b.ReportMetric(float64(seg)/float64(stored), "segB/flow")
			b.ReportMetric(float64(run)/float64(stored), "runB/flow")
			s.Close()
		}
		b.ReportMetric(float64(flows)/b.Elapsed().Seconds()/1e6, "Mflows/s")
	})
}

func coverage(t testing.TB, s *Store) flow.Coverage {
	cov, err := s.Coverage(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return cov
}

// BenchmarkQuestion asks a filled store, without the sealing.
func BenchmarkQuestion(b *testing.B) {
	dir := b.TempDir()
	if kept := os.Getenv("DRAGNET_BENCH_DIR"); kept != "" {
		dir = kept
	}
	var s *Store
	var err error
	if Is(dir) {
		if s, err = Open(dir); err != nil {
			b.Fatal(err)
		}
	} else {
		s = fill(b, dir, benchFlows(b))
	}
	defer s.Close()
	total := float64(coverage(b, s).Flows)
	service := key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}
	ports := service
	ports.SPort = true
	for _, c := range []struct {
		name     string
		standard uint16
		mask     key.Mask
	}{{"standard", key.StandardID(key.In, service), service}, {"self-describing", 0, service}, {"self-describing-ports", 0, ports}} {
		b.Run(c.name, func(b *testing.B) {
			h := key.Hash{Kind: key.Linear, Bits: 19}
			clue := dossier.AskedClue{End: key.In, Mask: c.mask, Standard: c.standard, Salt: key.OneShotSalt(c.mask, benchEpoch), Keys: []dossier.AskedKey{{}}}
			var hits atomic.Int64
			rounds := 0
			for b.Loop() {
				rounds++
				clue.Keys[0].K = key.K(rounds * 7919 % (1 << 19))
				cov, ok, err := s.Lookup(context.Background(), &clue, h, flow.AllTime, func(batch []flow.Flow) error {
					hits.Add(int64(len(batch)))
					return nil
				})
				if err != nil || !ok || cov.Skipped > 0 {
					b.Fatal(cov, ok, err)
				}
			}
			b.ReportMetric(float64(rounds)*total/b.Elapsed().Seconds()/1e6, "Mflows/s")
			b.ReportMetric(float64(hits.Load())/float64(rounds), "hits")
		})
	}
	for name, cols := range map[string]flow.Columns{"scan-few": flow.Failures, "scan-all": flow.AllColumns} {
		b.Run(name, func(b *testing.B) {
			rounds := 0
			for b.Loop() {
				rounds++
				if _, err := s.Scan(context.Background(), flow.AllTime, cols, func([]flow.Flow) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rounds)*total/b.Elapsed().Seconds()/1e6, "Mflows/s")
		})
	}
}
