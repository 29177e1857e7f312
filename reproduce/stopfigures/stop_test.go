//go:build linux

package stopfigures

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/reproduce/report"
	"dragnet/trace/walk"
)

func testBench(t testing.TB) *bench {
	t.Helper()
	testkit.Root(t)
	testkit.Tool(t, "setsid")
	memory, err := memoryDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(memory) })
	b, err := newBench(t.TempDir(), memory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func running(t testing.TB, b *bench, build func() (*structure, error), processes int) *structure {
	t.Helper()
	s, err := build()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.killAll)
	if err := s.awaitProcesses(b.finder, processes); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStructures checks that what is measured is what the paper describes.
func TestStructures(t *testing.T) {
	b := testBench(t)
	for _, c := range []struct {
		name      string
		build     func() (*structure, error)
		processes int
		pipes     int // that two of them share
	}{{"figure 3", startTree, 6, 0}, {"figure 4", startFigure4, 14, 4}} {
		s := running(t, b, c.build, c.processes)
		found, err := b.finder.Find(s.local, s.remote)
		if err != nil {
			t.Fatal(err)
		}
		w, err := b.finder.Walk(found)
		if err != nil {
			t.Fatal(err)
		}
		pipes := map[uint64]int{}
		for _, p := range w.Record() {
			for _, pipe := range p.Pipes {
				pipes[pipe]++
			}
		}
		shared := 0
		for _, holders := range pipes {
			if holders > 1 {
				shared++
			}
		}
		if shared != c.pipes {
			t.Errorf("%s: %d shared pipes, want %d", c.name, shared, c.pipes)
		}
	}
}

// TestRecordIsSmall checks the paper's claim that records compress to 700
// bytes, with more saved in ours.
func TestRecordIsSmall(t *testing.T) {
	b := testBench(t)
	s := running(t, b, startTree, 6)
	before := storeSize(t, b)
	const n = 20
	for range n {
		if err := b.serveSave(s, b.disk); err != nil {
			t.Fatal(err)
		}
	}
	each := (storeSize(t, b) - before) / n
	t.Logf("%d bytes a record of 6 processes, with frame and signature", each)
	if each > 1024 {
		t.Errorf("a record of 6 processes takes %d bytes, more than 1 KiB", each)
	}
}

func storeSize(t testing.TB, b *bench) (sum int64) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(b.diskDir, "records", "*.stop"))
	for _, name := range names {
		if st, err := os.Stat(name); err == nil {
			sum += st.Size()
		}
	}
	return sum
}

// TestReport makes the whole report with little effort.
func TestReport(t *testing.T) {
	b := testBench(t)
	b.effort = 0.02
	r, err := b.makeReport(t.Context(), report.Environment{Progress: func(string, int) {}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != 3 || len(r.Plots) != 1 {
		t.Fatalf("%d tables, %d plots", len(r.Tables), len(r.Plots))
	}
	for _, table := range r.Tables {
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: row %q under %q", table.Title, row, table.Header)
			}
		}
	}
	for _, row := range r.Tables[1].Rows { // table III: rates, then loads
		if load, err := strconv.ParseFloat(row[3], 64); err != nil || load < 0 || load > 400 {
			t.Errorf("load %q at %s requests a minute", row[3], row[0])
		}
	}
	if paths, err := r.WritePlots(t.TempDir()); err != nil || len(paths) != 1 {
		t.Errorf("plots %v, %v", paths, err)
	}
}

func BenchmarkRequests(b *testing.B) {
	m := testBench(b)
	s := running(b, m, startTree, 6)
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"ID", func() error { return m.serveID(s) }},
		{"SV", func() error { return m.serveSave(s, nil) }},
		{"SV-record-without-disk", func() error { return m.serveSave(s, m.memory) }},
		{"SV-record-on-disk", func() error { return m.serveSave(s, m.disk) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			timed(b, c.do)
		})
	}
}

// timed also reports processor time, which other work on the machine does not
// lengthen.
func timed(b *testing.B, do func() error) {
	before, err := processorTime()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}
	after, _ := processorTime()
	b.ReportMetric(float64((after-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkFigure4 compares the walk alone and among 100 processes, by eBPF and
// by /proc.
func BenchmarkFigure4(b *testing.B) {
	m := testBench(b)
	s := running(b, m, startFigure4, 14)
	config := walk.DefaultConfiguration()
	config.EBPF = "off"
	slow, err := walk.New(config)
	if err != nil {
		b.Fatal(err)
	}
	defer slow.Close()
	fast := m.finder
	measure := func(name string, f *walk.Finder) {
		b.Run(name, func(b *testing.B) {
			m.finder = f
			defer func() { m.finder = fast }()
			timed(b, func() error { return m.serveSave(s, nil) })
		})
	}
	measure("eBPF/alone", fast)
	measure("proc/alone", slow)
	others, err := startBystanders(100)
	b.Cleanup(others.killAll)
	if err != nil {
		b.Fatal(err)
	}
	measure("eBPF/with-100", fast)
	measure("proc/with-100", slow)
}
