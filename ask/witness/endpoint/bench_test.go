package endpoint

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/store/disk"
)

const benchEpoch = "2026-11-22"

// benchStore is the data directory that DRAGNET_BENCH_DIR keeps, or one of
// DRAGNET_BENCH_FLOWS made-up flows (default 2 million).
func benchStore(b *testing.B) *disk.Store {
	dir := os.Getenv("DRAGNET_BENCH_DIR")
	if dir == "" || !disk.Is(dir) {
		n := 2_000_000
		if s := os.Getenv("DRAGNET_BENCH_FLOWS"); s != "" {
			var err error
			if n, err = strconv.Atoi(s); err != nil {
				b.Fatal(err)
			}
		}
		dir = fill(b, b.TempDir(), n)
	}
	s, err := disk.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// fill makes scanners that contact hosts of a /16.
func fill(b *testing.B, dir string, n int) string {
	s, err := disk.OpenWriter(dir)
	if err != nil {
		b.Fatal(err)
	}
	w, err := s.NewWriter(benchEpoch)
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	batch := make([]flow.Flow, 4096)
	for made := 0; made < n; made += len(batch) {
		for i := range batch {
			batch[i] = flow.Flow{
				Start: flow.Time(made+i) * flow.Time(time.Millisecond), Proto: flow.TCP, State: flow.S0, OrigPort: uint16(random.Uint32()), RespPort: 22,
				Orig: netip.AddrFrom4([4]byte{byte(1 + random.Uint32N(200)), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())}),
				Resp: netip.AddrFrom4([4]byte{192, 0, byte(random.Uint32()), byte(random.Uint32())}),
			}
		}
		if err := w.Append(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

// BenchmarkStandardQuestion is a witness answering a standard question from its
// store, sealing included; beside it the store's look-up alone. Memory is what
// the process holds beyond the opened store.
func BenchmarkStandardQuestion(b *testing.B) {
	s := benchStore(b)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w, err := witness.New(witness.DefaultConfiguration(), "w", s, nil)
	if err != nil {
		b.Fatal(err)
	}
	questions := make([][]byte, 64)
	for i := range questions {
		p, err := pattern.Parse("in src=61.177."+strconv.Itoa(i)+".7 proto=tcp dport=22", pattern.NoFiles)
		if err != nil {
			b.Fatal(err)
		}
		q, err := detective.New(detective.Configuration{
			Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Style: detective.Standard, Window: flow.AllTime, Epoch: benchEpoch, Quorum: 1,
		}, p)
		if err != nil {
			b.Fatal(err)
		}
		questions[i] = q.Question()
	}
	used := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e6
	}
	b.Run("answer", func(b *testing.B) {
		answers, n, start := 0, 0, used()
		for b.Loop() {
			_, t, err := w.Testify(context.Background(), questions[n%len(questions)], nil)
			if err != nil || t.Refusal != dossier.Answered {
				b.Fatal(err)
			}
			answers += len(t.Answers)
			n++
		}
		b.ReportMetric((used()-start)/float64(n), "cpu-ms/op")
		b.ReportMetric(float64(answers)/float64(n), "answers")
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(int64(after.HeapSys)-int64(before.HeapSys))/(1<<20), "MiB-beyond")
	})
	b.Run("look-up", func(b *testing.B) {
		n, start := 0, used()
		for b.Loop() {
			var q dossier.Question
			if err := q.UnmarshalBinary(questions[n%len(questions)]); err != nil {
				b.Fatal(err)
			}
			if _, ok, err := s.Lookup(context.Background(), &q.Clues[0], q.Hash, q.Window, func([]flow.Flow) error { return nil }); err != nil || !ok {
				b.Fatal(ok, err)
			}
			n++
		}
		b.ReportMetric((used()-start)/float64(n), "cpu-ms/op")
		cov, err := s.Coverage(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(cov.Flows)/1e6, "Mflows")
	})
}
