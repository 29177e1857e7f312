package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var plenty = Limits{Bytes: 1 << 20, Age: 24 * time.Hour}

func open(t rapid.TB, dir string, l Limits) *Spool {
	t.Helper()
	s, err := Open(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t rapid.TB, s *Spool, now time.Time, data ...string) {
	t.Helper()
	var b [][]byte
	for _, d := range data {
		b = append(b, []byte(d))
	}
	if err := s.Append(now, b...); err != nil {
		t.Fatal(err)
	}
}

func read(t rapid.TB, s *Spool, now time.Time) []Record {
	t.Helper()
	r, err := s.Read(now, 1<<20, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAgainstAModel does random things to a spool and to a slice, with the
// spool closed and opened between, sometimes with the beginning of a record
// behind its end, as a crash leaves it.
func TestAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s := open(t, dir, plenty)
		defer func() { s.Close() }()
		now := time.Unix(1700000000, 0)
		var model []Record
		next, acknowledged := uint64(1), uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				data := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 100), 1, 20).Draw(t, "data")
				if rapid.IntRange(0, 5).Draw(t, "large") == 0 {
					data = append(data, make([]byte, plenty.Bytes/8-headerSize))
				}
				if len(model) > 100 {
					t.Skip("the limits are another test's")
				}
				if err := s.Append(now, data...); err != nil {
					t.Fatal(err)
				}
				for _, d := range data {
					model = append(model, Record{next, now.UTC(), d})
					next++
				}
				if size, _ := s.Waiting(); size > plenty.Bytes/2 {
					t.Skip("the limits are another test's")
				}
			},
			"acknowledge": func(t *rapid.T) {
				to := rapid.Uint64Range(acknowledged, next-1).Draw(t, "to")
				if err := s.Acknowledge(to); err != nil {
					t.Fatal(err)
				}
				for len(model) > 0 && model[0].Sequence <= to {
					model = model[1:]
				}
				acknowledged = to
				if err := s.Acknowledge(next); !errors.Is(err, ErrNotMade) {
					t.Fatal("took an acknowledgement for what was never made")
				}
			},
			"open again": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				torn := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "torn")
				if names, _ := filepath.Glob(filepath.Join(dir, "*"+extension)); len(names) > 0 {
					f, err := os.OpenFile(names[len(names)-1], os.O_APPEND|os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					f.Write(torn)
					f.Close()
				}
				s = open(t, dir, plenty)
			},
			"wait": func(t *rapid.T) { now = now.Add(time.Hour / 10) },
			"": func(t *rapid.T) {
				if _, dropped := s.Waiting(); dropped > 0 {
					t.Skip("the limits are another test's")
				}
				n := rapid.IntRange(1, 200).Draw(t, "count")
				got, err := s.Read(now, n, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				want := model[:min(n, len(model))]
				if len(got) != len(want) {
					t.Fatalf("read %d records, want %d", len(got), len(want))
				}
				for i := range got {
					if got[i].Sequence != want[i].Sequence || !got[i].Time.Equal(want[i].Time) || !bytes.Equal(got[i].Data, want[i].Data) {
						t.Fatalf("record %d: %v, want %v", i, got[i], want[i])
					}
				}
			},
		})
	})
}

// TestTheOldestGoFirst fills a spool far beyond its bounds.
func TestTheOldestGoFirst(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{Bytes: 64 << 10, Age: time.Hour})
	defer s.Close()
	now := time.Unix(1700000000, 0)
	const n = 1000
	for i := range n {
		add(t, s, now, strings.Repeat("x", 1000)+fmt.Sprint(i))
	}
	size, dropped := s.Waiting()
	if size > 64<<10 || size < 48<<10 {
		t.Errorf("%d bytes wait; want nearly 64 KiB", size)
	}
	files := int64(0)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files += info.Size()
		}
	}
	if files > 65<<10 {
		t.Errorf("files of %d bytes", files)
	}
	got := read(t, s, now)
	if len(got) == 0 || uint64(len(got))+dropped != n || got[0].Sequence != dropped+1 || got[len(got)-1].Sequence != n {
		t.Errorf("%d records wait and %d were dropped, of %d", len(got), dropped, n)
	}
	// Those that are too old go as well, but for the part that still grows.
	later := now.Add(2 * time.Hour)
	add(t, s, later, "new")
	got = read(t, s, later)
	if len(got) != 1 || string(got[0].Data) != "new" {
		t.Errorf("%d records after two hours, want the new one", len(got))
	}
	if err := s.Append(now, make([]byte, 9<<10)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a record that could never be kept: %v", err)
	}
}

func TestNumbersAreNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, plenty)
	id := s.ID()
	add(t, s, time.Now(), "a", "b", "c")
	if err := s.Acknowledge(3); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*"+extension)); len(names) > 0 {
		t.Errorf("all has arrived, and %v are left", names)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, plenty)
	defer s.Close()
	add(t, s, time.Now(), "d")
	if got := read(t, s, time.Now()); len(got) != 1 || got[0].Sequence != 4 || s.ID() != id {
		t.Errorf("%v in spool %x, which was %x", got, s.ID(), id)
	}
	if _, err := Open(dir, plenty); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
}

// TestDamageIsNamed: what is before it and in other files is still given.
func TestDamageIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{Bytes: 64 << 10, Age: time.Hour})
	for i := range 30 {
		add(t, s, time.Now(), strings.Repeat("x", 1000)+fmt.Sprint(i))
	}
	s.Close()
	names, _ := filepath.Glob(filepath.Join(dir, "*"+extension))
	b, err := os.ReadFile(names[1])
	if err != nil {
		t.Fatal(err)
	}
	b[3000] ^= 1
	if err := os.WriteFile(names[1], b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Limits{Bytes: 64 << 10, Age: time.Hour})
	defer s.Close()
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), names[1]) {
		t.Error(p)
	}
	got := read(t, s, time.Now())
	if len(got) < 20 || got[len(got)-1].Sequence != 30 {
		t.Errorf("%d of 30 records are read", len(got))
	}
}

func FuzzOpenSegment(f *testing.F) {
	now := time.Unix(1, 0)
	two := appendRecord(appendRecord(nil, Record{7, now, []byte("a")}), Record{8, now, nil})
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "00000000000000000007"+extension)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		g, problem, err := openSegment(name, true)
		if err != nil {
			t.Fatal(err)
		}
		defer g.file.Close()
		if (problem == nil) != (g.size == int64(len(b))) {
			t.Errorf("%d bytes of %d, %v", g.size, len(b), problem)
		}
		n := uint64(0)
		if _, err := g.readRecords(0, func(r Record) bool { n++; return r.Sequence == 6+n }); err != nil || n != g.count {
			t.Errorf("%d records of %d, %v", n, g.count, err)
		}
	})
}

// BenchmarkAppend compares one flush a record with one for a hundred.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, err := Open(b.TempDir(), Limits{Bytes: 64 << 20, Age: time.Hour})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			data := make([][]byte, n)
			for i := range data {
				data[i] = make([]byte, 300)
			}
			for b.Loop() {
				if err := s.Append(time.Now(), data...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
