package worm

import (
	"context"
	"syscall"
	"testing"
)

// cpuTime is the processor time this process has used, in seconds.
func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func measure(b *testing.B, run func(context.Context, Configuration) (*Outbreak, error), c Configuration) {
	b.Helper()
	scans, transitions := 0.0, int64(0)
	start := cpuTime()
	for i := range b.N {
		c.Seed = uint64(i)
		r, err := run(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		scans += r.Scans
		transitions += r.Transitions
	}
	used := cpuTime() - start
	b.ReportMetric(scans/used/1e6, "Mscans/cpu-s")
	b.ReportMetric(float64(transitions)/used/1e6, "Mtransitions/cpu-s")
}

// BenchmarkSimulator: scans are those accounted for by exact jumps, and for
// the twin those played; transitions are infections, changes of a rate, blocks.
func BenchmarkSimulator(b *testing.B) {
	undefended := DefaultConfiguration()
	undefended.Defence, undefended.Until = None, 0.95
	b.Run("no defence", func(b *testing.B) { measure(b, Run, undefended) })

	single := undefended // a hundred thousand hosts that fall one by one
	single.Instant = false
	b.Run("no defence, host by host", func(b *testing.B) { measure(b, Run, single) })

	agent := DefaultConfiguration()
	agent.Budget, agent.Until = Agent, 0.05
	b.Run("agent", func(b *testing.B) { measure(b, Run, agent) })

	permuted := undefended
	permuted.Strategy, permuted.Until = Permutation, 0.5
	b.Run("permutation", func(b *testing.B) { measure(b, Run, permuted) })

	small := smallWorld()
	small.Until = 0.2
	b.Run("scan by scan, small world", func(b *testing.B) { measure(b, PerScan, small) })
}
