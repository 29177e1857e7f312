package clickhouse

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/source/zeek"
	"dragnet/store"
)

// benchFlows is a real log, each line many times with other addresses and
// ports, in order of time: about two million flows.
func benchFlows(b *testing.B) (all []flow.Flow) {
	files, err := filepath.Glob(filepath.Join(testkit.Data(b, "zeek-logs", "missing_host"), "*.gz"))
	if err != nil {
		b.Fatal(err)
	}
	log, err := zeek.Open(files...)
	if err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	_, err = log.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		for range 22 {
			for _, f := range batch {
				if f.Orig.Is4() && f.Resp.Is4() {
					a := f.Orig.As4()
					binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])^rng.Uint32N(1<<16))
					f.Orig, f.OrigPort = netip.AddrFrom4(a), uint16(1024+rng.Uint32N(64512))
					f.Start += flow.Time(rng.Int64N(int64(2 * time.Second)))
				}
				all = append(all, f)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(all, func(a, b flow.Flow) int { return int(a.Start - b.Start) })
	return all
}

// BenchmarkStore imports, then asks and reads, on a server beside us with two
// threads; what the client computes itself is the comparison.
func BenchmarkStore(b *testing.B) {
	flows := benchFlows(b)
	ctx := context.Background()
	server := testkit.StartClickHouse(b)
	// Rates are per second of processor time, the server's and ours.
	cpu := func() time.Duration {
		var own syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
			b.Fatal(err)
		}
		return server.CPU() + time.Duration(own.Utime.Nano()+own.Stime.Nano())
	}
	rated := func(name string, n float64, run func(*testing.B)) {
		b.Run(name, func(b *testing.B) {
			before := cpu()
			run(b)
			b.ReportMetric(n*float64(b.N)/(cpu()-before).Seconds()/1e6, "Mflows/CPUs")
		})
	}
	w := openWriter(b, server.Address("bench"))
	rated("import", float64(len(flows)), func(b *testing.B) {
		for b.Loop() {
			for some := range slices.Chunk(flows, 1024) {
				if err := w.Append(ctx, some); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	})
	cov, err := w.Coverage(ctx)
	if err != nil {
		b.Fatal(err)
	}
	bytes, err := w.Bytes(ctx)
	if err != nil {
		b.Fatal(err)
	}
	all := float64(cov.Flows)
	mask := key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}
	clue := &dossier.AskedClue{End: key.In, Mask: mask, Salt: key.OneShotSalt(mask, "2026-11-22"), Keys: []dossier.AskedKey{{K: 4711}}}
	for _, h := range []key.Hash{{Kind: key.Linear, Bits: 19}, {Kind: key.Product}} {
		rated("question "+h.String(), all, func(b *testing.B) {
			found := 0
			for b.Loop() {
				if _, ok, err := w.Lookup(ctx, clue, h, flow.AllTime, func(batch []flow.Flow) error { found += len(batch); return nil }); err != nil || !ok {
					b.Fatal(ok, err)
				}
			}
			b.ReportMetric(float64(found)/float64(b.N), "matches")
		})
	}
	rated("tally", all, func(b *testing.B) {
		for b.Loop() {
			if _, err := w.Tally(ctx, &pattern.Filter{State: pattern.Failed}, flow.AllTime, store.BySource, func(store.Tally) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(bytes)/all, "B/flow")
	})
	for name, cols := range map[string]flow.Columns{"scan for questions": flow.Failures, "scan all fields": flow.AllColumns} {
		rated(name, all, func(b *testing.B) {
			for b.Loop() {
				if _, err := w.Scan(ctx, flow.AllTime, cols, func([]flow.Flow) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	rated("keys here", float64(len(flows)), func(b *testing.B) {
		keyer, err := key.NewKeyer(mask, key.In, key.Hash{Kind: key.Linear, Bits: 19}, clue.Salt)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			for i := range flows {
				keyer.Flow(&flows[i])
			}
		}
	})
}
