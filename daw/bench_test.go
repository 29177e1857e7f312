package daw

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"syscall"
	"testing"

	"dragnet/flow"
)

const monitored = 1_000_000

// attack is the mix an edge sees while a tenth of a million watched addresses
// scan: per 10 packets 5 requests, 3 failures and 2 successes.
type attack struct {
	conns []Conn
	kind  []byte
}

func newAttack(packets int) attack {
	draw := rand.New(rand.NewPCG(1, 2))
	a := attack{}
	var pending []Conn
	for len(a.conns) < packets {
		if len(pending) > 1000 {
			i := draw.IntN(len(pending))
			c := pending[i]
			pending[i] = pending[len(pending)-1]
			pending = pending[:len(pending)-1]
			kind := byte('f')
			if draw.IntN(5) < 2 {
				kind = 's'
			}
			a.conns, a.kind = append(a.conns, c), append(a.kind, kind)
		}
		src := draw.IntN(monitored)
		c := Conn{Src: host(src), SrcPort: uint16(draw.Uint32()), DstPort: 80, Seq: draw.Uint32(),
			Dst: netip.AddrFrom4([4]byte{byte(11 + draw.IntN(200)), byte(draw.Uint32()), byte(draw.Uint32()), byte(draw.Uint32())})}
		a.conns, a.kind = append(a.conns, c), append(a.kind, 'r')
		pending = append(pending, c)
	}
	return a
}

// BenchmarkEdge measures an edge with a million watched addresses that all
// have records, under attack, beside one look-up per packet in Go's own map.
func BenchmarkEdge(b *testing.B) {
	a := newAttack(1 << 20)
	b.Run("packet", func(b *testing.B) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		p := DefaultParameters()
		e, err := New(p, customer, morning)
		if err != nil {
			b.Fatal(err)
		}
		for i := range monitored { // every address has failed: the spatial limit is on
			scan(e, morning+flow.Time(i), host(i), i)
			if i == p.Phi+1 && !e.spatial.active {
				b.Fatal("the spatial limit is not active")
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		records := e.Report(morning + second).Records
		b.ResetTimer()
		cpu := cpuTime()
		for i := range b.N {
			at := morning + second + flow.Time(i)*1000
			c := &a.conns[i&(1<<20-1)]
			switch a.kind[i&(1<<20-1)] {
			case 'r':
				e.Request(at, c)
			case 'f':
				e.Failure(at, Reset, c)
			default:
				e.Success(at, c)
			}
		}
		b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		b.ReportMetric(float64(records), "records")
	})
	b.Run("plain map", func(b *testing.B) {
		counts := make(map[netip.Addr]*record, monitored)
		for i := range monitored {
			counts[host(i)] = &record{}
		}
		b.ResetTimer()
		cpu := cpuTime()
		for i := range b.N {
			counts[a.conns[i&(1<<20-1)].Src].c++
		}
		b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	})
}

// cpuTime is the processor time this process has used, which a busy machine
// blurs less than the time on the wall.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
