package match_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature/match"
)

// randomBlock resembles a learnt block: one likely byte per position, some
// others seen once.
func randomBlock(rng *rand.Rand, width int) dossier.Block {
	b := dossier.Block{Pseudo: 0.01}
	for range width {
		c := dossier.Column{byte(rng.Uint32()): 80 + float64(rng.IntN(20))}
		for range rng.IntN(12) {
			c[byte(rng.Uint32())] += float64(1 + rng.IntN(3))
		}
		b.Columns = append(b.Columns, c)
	}
	return b
}

func likely(b *dossier.Block) []byte {
	w := make([]byte, len(b.Columns))
	for p, c := range b.Columns {
		for x, n := range c {
			if n > c[w[p]] || n == c[w[p]] && x < w[p] {
				w[p] = x
			}
		}
	}
	return w
}

// textBackground is dominated by letters, as real traffic is.
func textBackground() *dossier.Background {
	var counts [256]uint64
	for x := range counts {
		counts[x] = 20
		if x >= 'a' && x <= 'z' || x == ' ' {
			counts[x] = 3000
		}
	}
	return dossier.NewBackground(&counts)
}

// payload mixes text, uniform bytes and, here and there, windows near b.
func payload(rng *rand.Rand, n int, b *dossier.Block) []byte {
	s := make([]byte, n)
	for i := range s {
		s[i] = byte('a' + rng.IntN(26))
		if i/1024%2 == 1 {
			s[i] = byte(rng.Uint32())
		}
	}
	w := likely(b)
	for range n/800 + 1 {
		if n < len(w) {
			break
		}
		at := rng.IntN(n - len(w) + 1)
		for i, x := range w {
			if rng.IntN(10) > rng.IntN(8) {
				s[at+i] = x
			}
		}
	}
	return s
}

type hit struct {
	At    int
	Score int32
}

// plain is the oracle: every window, every position.
func plain(t *match.Table, data []byte, limit int32) []hit {
	var hits []hit
	for at := 0; at+t.Width() <= len(data); at++ {
		if v := t.Score(data[at:]); v >= limit {
			hits = append(hits, hit{at, v})
		}
	}
	return hits
}

func scan(s *match.Scanner, data []byte, limit int32) []hit {
	var hits []hit
	s.Scan(data, func(at int, score int32) int32 {
		hits = append(hits, hit{at, score})
		return limit
	})
	return hits
}

func TestKernelsAgreeWithThePlainLoop(t *testing.T) {
	testkit.Long(t) // one goroutine
	rng := rand.New(rand.NewPCG(1, 2))
	bg := textBackground()
	found := 0
	for _, width := range []int{1, 2, 10, 31, 100, 333} {
		block := randomBlock(rng, width)
		table := match.NewTable(&block, bg)
		for _, omega := range []float64{-3, 0.5} {
			limit := table.Limit(omega)
			scanners := map[match.Kernel]*match.Scanner{}
			for _, k := range match.Kernels() {
				scanners[k] = match.NewScanner(table, limit, k)
			}
			for _, n := range []int{0, width - 1, width, width + 1, 255, 256, 257, 8191, 8192 + width} {
				data := payload(rng, n, &block)
				want := plain(table, data, limit)
				found += len(want)
				for k, s := range scanners {
					if d := cmp.Diff(want, scan(s, data, limit)); d != "" {
						t.Fatalf("%v, W=%d, omega %v, %d bytes (-plain +kernel):\n%s", k, width, omega, n, d)
					}
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d windows reached a limit: the comparison says little", found)
	}
}

func TestBestIsTheSameOnEveryKernel(t *testing.T) {
	testkit.Long(t) // one goroutine
	rng := rand.New(rand.NewPCG(3, 4))
	bg := textBackground()
	for _, width := range []int{5, 30, 120} {
		block := randomBlock(rng, width)
		table := match.NewTable(&block, bg)
		for _, n := range []int{width, 300, 20000} {
			data := payload(rng, n, &block)
			want := hit{Score: -1 << 31}
			for _, h := range plain(table, data, -1<<30) {
				if h.Score > want.Score {
					want = h
				}
			}
			for _, omega := range []float64{0, 100} { // 100: nothing reaches the limit
				for _, k := range match.Kernels() {
					at, score := match.NewScanner(table, table.Limit(omega), k).Best(data)
					if got := (hit{at, score}); got != want {
						t.Errorf("%v, W=%d, %d bytes, omega %v: best %v, want %v", k, width, n, omega, got, want)
					}
				}
			}
		}
	}
}

// FuzzKernels compares every kernel with the plain loop on arbitrary bytes,
// signatures and limits.
// FuzzKernels compares every kernel with the plain loop. Blocks come from a
// short list, as making a filter takes far longer than running it.
func FuzzKernels(f *testing.F) {
	f.Add(uint64(1), uint8(4), int16(0), []byte("the quick brown fox"))
	f.Add(uint64(7), uint8(7), int16(-100), make([]byte, 700))
	type compiled struct {
		table    *match.Table
		limit    int32
		scanners []*match.Scanner
	}
	rng := rand.New(rand.NewPCG(91, 92))
	bg := textBackground()
	var blocks []dossier.Block
	for _, width := range []int{1, 4, 5, 10, 32, 33, 130} {
		blocks = append(blocks, randomBlock(rng, width))
	}
	known := map[[2]int]compiled{}
	f.Fuzz(func(t *testing.T, seed uint64, which uint8, omega int16, data []byte) {
		block := &blocks[int(which)%len(blocks)]
		name := [2]int{int(which) % len(blocks), int(omega) & 1 * 3}
		c, ok := known[name]
		if !ok {
			c.table = match.NewTable(block, bg)
			c.limit = c.table.Limit(float64(name[1]))
			for _, k := range match.Kernels() {
				c.scanners = append(c.scanners, match.NewScanner(c.table, c.limit, k))
			}
			known[name] = c
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		if len(data) > 0 && rng.IntN(2) == 0 { // reach beyond one block of the kernel
			for len(data) < 600 {
				data = append(data, data...)
			}
		}
		if w := likely(block); len(data) >= len(w) {
			copy(data[rng.IntN(len(data)-len(w)+1):], w[:rng.IntN(len(w)+1)])
		}
		want := plain(c.table, data, c.limit)
		for i, s := range c.scanners {
			if d := cmp.Diff(want, scan(s, data, c.limit)); d != "" {
				t.Fatalf("%v differs (-plain +kernel):\n%s", match.Kernels()[i], d)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	bg := textBackground()
	for _, width := range []int{10, 16, 32, 100} {
		block := randomBlock(rng, width)
		table := match.NewTable(&block, bg)
		data := payload(rng, 4<<20, &block)
		for _, omega := range []float64{0, 2} {
			limit := table.Limit(omega)
			b.Run(fmt.Sprintf("W=%d/omega=%v/plain", width, omega), func(b *testing.B) {
				perCPU(b, len(data), func() {
					n := 0
					for at := 0; at+width <= len(data); at++ {
						if table.Score(data[at:]) >= limit {
							n++
						}
					}
					b.ReportMetric(float64(n), "hits")
				})
			})
			for _, k := range match.Kernels() {
				s := match.NewScanner(table, limit, k)
				b.Run(fmt.Sprintf("W=%d/omega=%v/%v", width, omega, k), func(b *testing.B) {
					perCPU(b, len(data), func() {
						n := 0
						s.Scan(data, func(int, int32) int32 { n++; return limit })
						b.ReportMetric(float64(n), "hits")
					})
				})
			}
		}
	}
}

// perCPU reports bytes per second of processor time besides the wall clock's,
// which means little on a machine that others use too.
func perCPU(b *testing.B, bytes int, f func()) {
	b.SetBytes(int64(bytes))
	used := processorTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(bytes)*float64(b.N)/1e6/(processorTime(b)-used), "MB/cpu-s")
}

func processorTime(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// TestMissingKernels names the kernels that this machine cannot run, and that no test here
// has therefore compared with the plain loop.
func TestMissingKernels(t *testing.T) {
	for _, k := range match.MissingKernels() {
		t.Run(k.String(), func(t *testing.T) {
			t.Skipf("this machine cannot run the kernel %v: nothing here tests it", k)
		})
	}
	if n := len(match.Kernels()) + len(match.MissingKernels()); n != int(match.VBMI)+1 {
		t.Errorf("%d kernels are run or missing, of %d", n, match.VBMI+1)
	}
}
