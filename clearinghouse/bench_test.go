package clearinghouse_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"dragnet/clearinghouse"
	"dragnet/flow"
	"dragnet/wire/reporting"
)

// BenchmarkSubmit takes reports of ten hosts each over SQLite, acknowledged
// when they are on disk: one in each submission from one member and from many
// at once, which share commits, and in submissions of a hundred. The price of
// one flush alone is "one".
func BenchmarkSubmit(b *testing.B) {
	for _, bench := range []struct {
		name              string
		submitters, batch int
	}{{"one", 1, 1}, {"submitters=64", 64, 1}, {"submitters=512", 512, 1}, {"submitters=4/batch=100", 4, 100}, {"submitters=4/batch=1000", 4, 1000}} {
		b.Run(bench.name, func(b *testing.B) {
			c := newCommunity(b, filepath.Join(b.TempDir(), "state.db"), func(x *clearinghouse.Configuration) { x.ReportsPerDay = 1 << 40 })
			sealed := make([][]byte, b.N)
			for i := range sealed {
				r := c.report(scan, hosts(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)...)
				r.Made -= flow.Time(i)
				sealed[i] = c.seal([]string{"a", "b", "c", "d", "e"}[i%5], reporting.ReportKind, r)
			}
			before := cpu(b)
			b.ResetTimer()
			var wg sync.WaitGroup
			work := make(chan [][]byte)
			for range bench.submitters {
				wg.Go(func() {
					for s := range work {
						if out, err := c.core.Submit(context.Background(), s); err != nil || out[0].Status != clearinghouse.Accepted {
							b.Errorf("%v, %+v", err, out)
							return
						}
					}
				})
			}
			for len(sealed) > 0 {
				n := min(bench.batch, len(sealed))
				work <- sealed[:n]
				sealed = sealed[n:]
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/report")
		})
	}
}

// cpu is the processor time this process has used: on a shared machine it says
// more than the wall clock.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPublish makes one batch out of reports that live, of 50 hosts each,
// four sources for each of 100 patterns.
func BenchmarkPublish(b *testing.B) {
	for _, reports := range []int{400, 4000} {
		b.Run(fmt.Sprint("reports=", reports), func(b *testing.B) {
			c := newCommunity(b, filepath.Join(b.TempDir(), "state.db"), func(x *clearinghouse.Configuration) { x.ReportsPerDay = 1 << 40 })
			for i := range reports {
				var named []int
				for h := range 50 {
					named = append(named, 1+h*5)
				}
				r := c.report(fmt.Sprintf("in dport=%d", 1+i/4%100), hosts(named...)...)
				r.Made -= flow.Time(i)
				c.submitReport([]string{"a", "b", "c", "d"}[i%4], r)
			}
			for b.Loop() {
				if p := c.publish(); p.Reports != reports {
					b.Fatal(p)
				}
			}
			b.ReportMetric(float64(reports)*float64(b.N)/b.Elapsed().Seconds(), "reports/s")
		})
	}
}
