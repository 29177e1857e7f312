//go:build linux

package tc

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/testkit"
)

// BenchmarkPrograms measures what a packet costs with a million records in the tables,
// beside a program that passes everything.
func BenchmarkPrograms(b *testing.B) {
	testkit.Root(b)
	const hosts = 1_000_000
	p := daw.DefaultParameters()
	p.Phi, p.Network64, p.Network56, p.Network48 = 0, 4, 8, 16
	edge, err := daw.New(p, customer, monday)
	if err != nil {
		b.Fatal(err)
	}
	edge.ListAll(true)
	source := func(n int) netip.AddrPort {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 10<<24|uint32(n))
		return netip.AddrPortFrom(netip.AddrFrom4(a), 1000)
	}
	for i := range hosts {
		n := uint32(i)
		c := daw.Conn{Src: source(i).Addr(), Dst: netip.AddrFrom4([4]byte{byte(20 + n>>22), byte(n >> 14), byte(n >> 6), byte(n << 2)}), SrcPort: 1000, DstPort: 80, Seq: n}
		edge.Request(monday, &c)
		edge.Failure(monday, daw.Reset, &c)
	}
	k, _, err := Load(Options{testClock: true}, edge)
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	records := edge.Report(monday).Records
	for _, err := range []error{k.SetScope(customer, nil), k.SetBehaviour(Behaviour{Acting: true}), k.objects.ClockNs.Set(int64(monday + flow.Time(time.Second)))} {
		if err != nil {
			b.Fatal(err)
		}
	}
	bare, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, License: "GPL"})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	// One program run a frame, over many sources, so that records are not in the
	// cache; and many a frame, for what costs no memory.
	frames := func(flags uint8, n int) (all [][]byte) {
		for i := range n {
			all = append(all, append(segment(source(i*7919%hosts), from("20.0.0.1:80"), flags, uint32(i), 1), make([]byte, 10)...))
		}
		return all
	}
	for _, c := range []struct {
		name    string
		program *ebpf.Program
		frames  [][]byte
		repeat  int
	}{
		{"bare", bare, frames(fACK, 1), 1_000_000},
		{"data from inside", k.objects.FromInside, frames(fACK, 1), 1_000_000},
		{"data to inside", k.objects.ToInside, [][]byte{segment(from("20.0.0.1:80"), source(1), fACK, 1, 1)}, 1_000_000},
		{"request, one source", k.objects.FromInside, frames(fSYN, 1), 300_000},
		{"request, ever other sources", k.objects.FromInside, frames(fSYN, 20_000), 1},
		{"bare, ever other frames", bare, frames(fSYN, 20_000), 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				total := time.Duration(0)
				for _, f := range c.frames {
					if len(f) < 64 {
						f = append(f, make([]byte, 64-len(f))...)
					}
					_, d, err := c.program.Benchmark(f, c.repeat, nil)
					if err != nil {
						b.Fatal(err)
					}
					total += d
				}
				b.ReportMetric(float64(total.Nanoseconds())/float64(len(c.frames)), "ns/packet")
			}
			b.ReportMetric(float64(records), "records")
		})
	}
	// The first packets of two days: on the first all records begin again, on the second
	// those without a failure since go.
	var took [2]time.Duration
	for d := range took {
		if err := k.objects.ClockNs.Set(int64(monday + flow.Time(d+1)*flow.Time(24*time.Hour) + flow.Time(time.Second))); err != nil {
			b.Fatal(err)
		}
		if _, took[d], err = k.objects.FromInside.Benchmark(frames(fSYN, 1)[0], 1, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("midnight", func(b *testing.B) {
		b.ReportMetric(float64(took[0].Microseconds())/1000, "ms/first-midnight")
		b.ReportMetric(float64(took[1].Microseconds())/1000, "ms/second-midnight")
	})
}
