package inquiry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// memory is a log in memory.
type memory []flow.Flow

func (m memory) Scan(_ context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	cov.Saw(m)
	return cov, fn(m)
}

// synthetic is a log of which one flow fits the benchmark's pattern.
func synthetic(witness int) memory {
	random := rand.New(rand.NewPCG(uint64(witness), 1))
	out := make(memory, 1000)
	for i := range out {
		out[i] = flow.Flow{
			Start: flow.Time(i) * flow.Time(time.Second), Proto: flow.TCP, OrigPort: 40000, RespPort: 1433,
			Orig: netip.AddrFrom4([4]byte{100, byte(random.Uint32()), byte(random.Uint32()), 1}), Resp: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
		}
	}
	out[random.IntN(len(out))].Orig = netip.MustParseAddr("203.0.113.5")
	return out
}

// BenchmarkThousandWitnesses asks 1,000 witnesses in this process over loopback
// TLS, with their audit logs in memory, as 1,000 machines would have 1,000 disks;
// beside it the same question without a network: the witnesses' answering and
// the detective's opening alone.
func BenchmarkThousandWitnesses(b *testing.B) {
	const witnesses = 1000
	shm, err := os.MkdirTemp("/dev/shm", "dragnet-bench-")
	if err != nil {
		b.Skip("no /dev/shm to keep the audit logs of 1,000 machines in")
	}
	b.Cleanup(func() { os.RemoveAll(shm) })
	c := newCommunity(b)
	c.moveTo(shm)
	network := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for i := range witnesses {
		c.witness(fmt.Sprintf("w%d", i), synthetic(i), network, nil)
	}
	p, err := pattern.Parse("in src=203.0.113.5 proto=tcp dport=1433", pattern.NoFiles)
	if err == nil {
		err = c.book.Validate()
	}
	if err != nil {
		b.Fatal(err)
	}
	conf := inquiry.DefaultConfiguration()
	conf.Key, conf.Book, conf.Selection = c.ours, c.book, inquiry.WitnessSelection{All: true}
	conf.Detective = detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Style: detective.Hybrid, Window: flow.AllTime,
		Epoch: time.Now().UTC().Format(time.DateOnly), Quorum: 2,
	}
	conf.Deadline = 5 * time.Minute // the machine may be busy with other things
	b.Run("network", func(b *testing.B) {
		defer cpu(b)()
		for b.Loop() {
			out, err := inquiry.Run(context.Background(), conf, p)
			if err != nil || out.Tally.Count(inquiry.Answered) != witnesses || len(out.Result.Hosts) == 0 {
				b.Fatalf("%v, %v", out.Tally, err)
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB-heap")
	})
	b.Run("answers-alone", func(b *testing.B) {
		defer cpu(b)()
		for b.Loop() {
			inquiry, err := detective.New(conf.Detective, p)
			if err != nil {
				b.Fatal(err)
			}
			for i := range witnesses {
				name := fmt.Sprint(i)
				w, err := witness.New(witness.DefaultConfiguration(), name, synthetic(i), nil)
				if err != nil {
					b.Fatal(err)
				}
				sealed, _, err := w.Answer(context.Background(), inquiry.Question())
				if err == nil {
					_, err = inquiry.OpenTestimony(context.Background(), name, sealed)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// cpu reports the processor time of one iteration, which on a shared machine says
// more than elapsed time.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric((used()-before).Seconds()/float64(b.N), "cpu-s/op") }
}
