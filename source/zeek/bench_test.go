package zeek

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	stdgzip "compress/gzip"

	"github.com/klauspost/compress/gzip"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// realLog is the 72 hours of missing_host as one uncompressed log.
var realLog = sync.OnceValues(func() ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("DRAGNET_DATA"), "zeek-logs", "missing_host", "*.gz"))
	var all bytes.Buffer
	for _, name := range files {
		f, err := openFile(name)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(&all, f); err != nil {
			return nil, err
		}
		f.Close()
	}
	return all.Bytes(), err
})

func realBytes(t testing.TB) []byte {
	t.Helper()
	testkit.Data(t, "zeek-logs", "missing_host")
	b, err := realLog()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bigLog writes the real log again and again into a file of about size bytes.
func bigLog(t testing.TB, size int) (path string, written int64) {
	t.Helper()
	real := realBytes(t)
	path = filepath.Join(t.TempDir(), "conn.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for written < int64(size) {
		if _, err := f.Write(real); err != nil {
			t.Fatal(err)
		}
		written += int64(len(real))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path, written
}

// BenchmarkParse measures one core, from memory, 4,096 flows (half a MB of TSV)
// a pass. Besides the mean it reports the fastest pass, which is short enough
// to fall between the other work of a shared machine, and beside it the speed
// at which the same bytes are merely searched for tabs, eight at a time.
func BenchmarkParse(b *testing.B) {
	tsv := realBytes(b)[:8<<20]
	tsv = tsv[:bytes.LastIndexByte(tsv, '\n')+1]
	json := asJSON(b, tsv)
	for _, c := range []struct {
		name string
		log  []byte
		cols flow.Columns
	}{
		{"tsv/hunt", tsv, 0}, {"tsv/all", tsv, flow.AllColumns},
		{"json/hunt", json, 0}, {"json/all", json, flow.AllColumns},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := NewReader(&endless{log: c.log}, "log", c.cols)
			passes(b, func() int64 {
				begin := r.Offset()
				for n := 0; n < 4096; {
					batch, err := r.Next()
					if err != nil {
						b.Fatal(err)
					}
					n += len(batch)
				}
				return r.Offset() - begin
			})
		})
	}
	b.Run("tabs", func(b *testing.B) {
		at := make([]uint32, 512<<10)
		passes(b, func() int64 {
			findSeparators(tsv[:len(at)], '\t', at)
			return int64(len(at))
		})
	})
}

// passes runs pass, which returns how many bytes it did, and reports the
// fastest.
func passes(b *testing.B, pass func() int64) {
	b.ReportAllocs()
	total, best := int64(0), 0.0
	for b.Loop() {
		begin := time.Now()
		n := pass()
		total += n
		best = max(best, float64(n)/1e6/time.Since(begin).Seconds())
	}
	b.SetBytes(total / int64(b.N))
	b.ReportMetric(best, "best-MB/s")
}

// endless repeats a log.
type endless struct {
	log  []byte
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.log
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func drain(t testing.TB, r *Reader) (n int) {
	t.Helper()
	for {
		batch, err := r.Next()
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(batch)
	}
}

// BenchmarkLookup counts the flows to one service in the same file by Scan and
// by mawk, the fastest of the awks. The metric MB/cpu-s is bytes per second of
// processor time of all threads, which other work on the machine disturbs less
// than MB/s.
func BenchmarkLookup(b *testing.B) {
	path, size := bigLog(b, 256<<20)
	want := lookUpByAwk(b, "mawk", path, "64.225.56.201", "22")
	run := func(name string, look func() int64) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			begin := processorTime()
			for b.Loop() {
				if got := look(); got != want {
					b.Fatalf("%d flows, want %d", got, want)
				}
			}
			b.ReportMetric(float64(size)*float64(b.N)/1e6/(processorTime()-begin).Seconds(), "MB/cpu-s")
		})
	}
	run("scan", func() int64 { return lookUp(b, path, "64.225.56.201", 22) })
	run("mawk", func() int64 { return lookUpByAwk(b, "mawk", path, "64.225.56.201", "22") })
}

// processorTime is what this process and its children have used so far.
func processorTime() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err == nil {
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}

// BenchmarkDirectory scans the shared directory of 72 gzip files.
func BenchmarkDirectory(b *testing.B) {
	dir := testkit.Data(b, "zeek-logs", "missing_host")
	b.SetBytes(int64(len(realBytes(b))))
	for b.Loop() {
		lookUp(b, dir, "64.225.56.201", 22)
	}
}

func lookUp(t testing.TB, path, addr string, port uint16) int64 {
	t.Helper()
	log, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	host := netip.MustParseAddr(addr)
	var count atomic.Int64
	_, err = log.Scan(context.Background(), flow.AllTime, 0, func(batch []flow.Flow) error {
		n := int64(0)
		for i := range batch {
			if f := &batch[i]; f.Resp == host && f.Proto == flow.TCP && f.RespPort == port {
				n++
			}
		}
		count.Add(n)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count.Load()
}

func lookUpByAwk(t testing.TB, awk, path, addr, port string) int64 {
	t.Helper()
	out, err := exec.Command(testkit.Tool(t, awk), "-F\t", "-v", "A="+addr, "-v", "P="+port,
		`$6==A && $8=="tcp" && $7==P{c++} END{print c+0}`, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// BenchmarkGunzip compares the two readers of gzip on the real log.
func BenchmarkGunzip(b *testing.B) {
	var packed bytes.Buffer
	z := stdgzip.NewWriter(&packed)
	z.Write(realBytes(b))
	z.Close()
	for _, lib := range []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"std", func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	} {
		b.Run(lib.name, func(b *testing.B) {
			b.SetBytes(int64(len(realBytes(b))))
			for b.Loop() {
				r, err := lib.open(bytes.NewReader(packed.Bytes()))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func asJSON(t testing.TB, tsv []byte) []byte {
	t.Helper()
	var names []string
	var out bytes.Buffer
	for line := range strings.Lines(string(tsv)) {
		values := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if values[0] == "#fields" {
			names = values[1:]
		}
		if line[0] == '#' {
			continue
		}
		sep := "{"
		for i, v := range values {
			switch {
			case v == "-":
				continue
			case names[i] == "local_orig" || names[i] == "local_resp":
				v = map[string]string{"T": "true", "F": "false"}[v]
			case strings.Trim(v, "0123456789.") != "" || strings.Count(v, ".") > 1:
				v = strconv.Quote(v)
			}
			out.WriteString(sep + strconv.Quote(names[i]) + ":" + v)
			sep = ","
		}
		out.WriteString("}\n")
	}
	return out.Bytes()
}
